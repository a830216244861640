from __future__ import annotations

from pathlib import Path

import pytest

from agentkit.errors import HardpointError
from agentkit.runner import Answer, ScriptedRunner
from kvmagent.iscsi.multipath import DROP_IN, Multipath
from kvmagent.iscsi.plan import Removal
from kvmagent.iscsi.removing import Remover
from kvmagent.iscsi.tools import Tools
from kvmagent.machine.luns import MultipathMap, ScsiDisk

PROGRAMS = ("multipath", "multipathd", "blockdev", "systemctl")
WWIDS = ["36001405000000001", "36001405000000002"]


class Host:
    """A machine that has the multipath tools, which say what a test wants."""

    def __init__(self, root: Path, **answers: Answer) -> None:
        for program in PROGRAMS:
            file = root / "usr/sbin" / program
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("")
        self.root = root
        script = {(str(root / "usr/sbin" / program),): Answer() for program in PROGRAMS}
        for program, answer in answers.items():
            script[str(root / "usr/sbin" / program),] = answer
        self.runner = ScriptedRunner(script)
        self.tools = Tools(root, self.runner)
        self.multipath = Multipath(root, self.tools)

    def ran(self) -> list[str]:
        return [" ".join([Path(argv[0]).name, *argv[1:]]) for argv in self.runner.ran]


def a_map(*paths: str) -> MultipathMap:
    return MultipathMap("dm-3", WWIDS[0], WWIDS[0], 1024, paths, ())


async def test_new_luns_are_made_known_and_the_configuration_is_read_anew(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.multipath.know(WWIDS, ["sdb", "sdc"])
    text = (tmp_path / DROP_IN).read_text()
    assert all(f'wwid "{wwid}"' in text for wwid in WWIDS)
    assert host.ran() == [
        "systemctl start multipathd",
        "multipath -a /dev/sdb",
        "multipath -a /dev/sdc",
        "multipathd reconfigure",
    ]
    await host.multipath.know(WWIDS, [])
    assert len(host.ran()) == 4, "what is known already changes nothing"


async def test_luns_that_are_needed_no_longer_are_forgotten_when_nothing_makes_maps_of_them(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)
    await host.multipath.know(WWIDS, ["sdb", "sdc"])
    await host.multipath.know(WWIDS[:1], [])
    assert host.ran()[-2:] == ["multipathd reconfigure", f"multipath -w {WWIDS[1]}"]


async def test_a_host_without_luns_or_without_multipath_gets_no_file(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.multipath.know([], [])
    (tmp_path / "usr/sbin/multipathd").unlink()
    await host.multipath.know(WWIDS, ["sdb"])
    assert not (tmp_path / DROP_IN).exists()
    assert host.ran() == []


async def test_settings_of_the_host_stay(tmp_path: Path) -> None:
    host = Host(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/multipath.conf").write_text("defaults {\n}\n")
    await host.multipath.know(WWIDS, [])
    assert (tmp_path / "etc/multipath.conf").read_text() == "defaults {\n}\n"


async def test_a_map_without_paths_is_not_waited_for(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await host.multipath.flush(a_map())
    assert host.ran()[0] == f"multipathd disablequeueing map {WWIDS[0]}"
    assert f"multipath -f {WWIDS[0]}" in host.ran()


async def test_a_map_that_is_open_stays_and_those_before_it_come_back(tmp_path: Path) -> None:
    host = Host(tmp_path, multipath=Answer(b"map in use\n", b"", 1))
    remover = Remover(host.tools, host.multipath)
    with pytest.raises(HardpointError, match="map in use") as refused:
        await remover.free(Removal((a_map("sdb"),), (), (), ()))
    assert refused.value.remedy
    assert host.ran()[-1] == "multipathd reconfigure"


async def test_disks_are_flushed_before_they_go(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.runner.answers["tee",] = Answer()
    for name in ("sdb", "sdc"):
        switch = tmp_path / f"sys/block/{name}/device/delete"
        switch.parent.mkdir(parents=True)
        switch.write_text("")
    disks = tuple(
        ScsiDisk(n, "2:0:0:0", 0, None, None, "", "", None, None, 1, "running", 1, None, None)
        for n in ("sdb", "sdc", "sdx")
    )
    await Remover(host.tools, host.multipath).remove(Removal((), disks, (), ()))
    order = [line.split()[0] for line in host.ran()]
    assert order == ["blockdev"] * 3 + ["tee"] * 2
