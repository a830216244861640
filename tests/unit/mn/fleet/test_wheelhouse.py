from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from agentkit.errors import HardpointError
from mn.fleet import wheelhouse
from mn.fleet.agents import KVM_AGENT, STORAGE_AGENT
from mn.fleet.wheelhouse import Sources, Wheelhouse, check_python, dependencies, host_python, pack, release
from mn.fleet.wheelhouse_sources import HostPython, Missing, from_folder

OTHER = HostPython((3, 12), "aarch64", (2, 34))
NOWHERE = Sources(Path("/nonexistent"))
pytestmark = pytest.mark.timeout(600)  # packing is seconds of computing, minutes on a busy machine


@pytest.fixture(scope="module")
def own_bundle() -> bytes:
    """The bundle for hosts like this machine."""
    return pack(HostPython.own(), NOWHERE)


def wheel(folder: Path, name: str, files: dict[str, str]) -> None:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)


def test_the_release_is_named_by_a_hash_and_has_exact_versions_of_what_the_agent_needs() -> None:
    found = release()
    assert found.version.partition("+")[2]
    assert {"aiohttp", "msgspec", "pyudev", "pyroute2"} <= set(found.pins)
    assert not {"ansible-core", "sqlalchemy", "pytest", "typer"} & set(found.pins)


def test_each_kind_of_agent_is_a_release_of_its_own_code_and_dependencies() -> None:
    found = release(STORAGE_AGENT)
    assert {"aiohttp", "msgspec", "zstandard"} <= set(found.pins)
    assert not {"pyudev", "pyroute2"} & set(found.pins)
    assert found.version != release().version
    names = {name for name, _ in wheelhouse._agent_files(STORAGE_AGENT)}
    assert {"agentkit/daemon.py", "storageagent/server.py"} <= names
    assert not any(name.startswith("kvmagent/") for name in names)


def test_changed_code_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = release().version
    files = dict(wheelhouse._agent_files(KVM_AGENT)) | {"kvmagent/new.py": b"x = 1\n"}
    monkeypatch.setattr(wheelhouse, "_agent_files", lambda _agent: iter(files.items()))
    release.cache_clear()
    try:
        assert release().version != before
    finally:
        release.cache_clear()


def test_this_environments_packages_run_the_agent_in_a_bare_virtual_environment(
    own_bundle: bytes, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    site = next((tmp_path / "venv" / "lib").glob("*/site-packages"))
    with tarfile.open(fileobj=io.BytesIO(own_bundle)) as archive:
        names = archive.getnames()
        archive.extractall(site, filter="data")
    assert not any(name.startswith(("mn/", "mnclient/", "tests/")) for name in names)
    assert any(name.endswith(".pyc") for name in names)
    python = str(tmp_path / "venv" / "bin" / "python")
    code = "import kvmagent.server as s, aiohttp, pyudev; print(s.agent_version(), aiohttp.__file__)"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    version, place = done.stdout.split()
    assert version == release().version
    assert place.startswith(str(tmp_path))


def test_a_bundle_is_the_same_for_the_same_files(own_bundle: bytes) -> None:
    assert pack(HostPython.own(), NOWHERE) == own_bundle


def test_no_wheels_for_a_host_names_its_python_and_the_command_that_gets_them() -> None:
    with pytest.raises(HardpointError) as caught:
        pack(OTHER, NOWHERE)
    assert "Python 3.12, aarch64, glibc 2.34" in caught.value.details
    assert "no package index is configured" in caught.value.details
    assert "python -m mn wheelhouse --python 3.12 --architecture aarch64" in caught.value.remedy


def test_a_python_that_is_too_old_is_named() -> None:
    with pytest.raises(HardpointError, match=r"the host's Python is 3\.9, the agent needs 3\.11"):
        check_python(HostPython((3, 9), "x86_64", (2, 34)))
    with pytest.raises(HardpointError, match="no Python"):
        host_python(None, "x86_64", "glibc 2.34")


def test_a_filled_folder_serves_another_python_and_architecture(tmp_path: Path) -> None:
    for name, version in dependencies(OTHER).items():
        stem = name.replace("-", "_")
        wheel(
            tmp_path,
            f"{stem}-{version}-cp312-cp312-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
            {f"{stem}/__init__.py": "", f"{stem}-{version}.dist-info/RECORD": "", "../evil.py": ""},
        )
    with tarfile.open(fileobj=io.BytesIO(pack(OTHER, Sources(tmp_path)))) as archive:
        names = archive.getnames()
    assert "aiohttp/__init__.py" in names
    assert "kvmagent/server.py" in names
    assert not any("evil" in name or name.endswith(".pyc") for name in names)


def test_the_best_wheel_is_taken_and_one_for_a_newer_libc_is_not(tmp_path: Path) -> None:
    wheel(tmp_path, "demo-1.0-py3-none-any.whl", {"demo.py": "any"})
    wheel(tmp_path, "demo-1.0-cp312-cp312-manylinux_2_28_aarch64.whl", {"demo.py": "2.28"})
    wheel(tmp_path, "demo-1.0-cp312-cp312-manylinux_2_39_aarch64.whl", {"demo.py": "2.39"})
    wheel(tmp_path, "demo-2.0-cp312-cp312-manylinux_2_28_aarch64.whl", {"demo.py": "2.0"})
    wheel(tmp_path, "demo-1.0-cp312-cp312-manylinux_2_28_x86_64.whl", {"demo.py": "x86"})
    (found,) = from_folder({"demo": "1.0"}, OTHER, tmp_path)
    assert found.files == {"demo.py": b"2.28"}


def test_a_folder_that_lacks_a_wheel_says_which(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"demo 1\.0"):
        from_folder({"demo": "1.0"}, OTHER, tmp_path)


async def test_a_bundle_is_made_once_and_those_of_other_versions_go(tmp_path: Path) -> None:
    old = tmp_path / "kvmagent-0.0.1+old-cp311-x86_64-glibc2.36.tar.gz"
    old.write_bytes(b"")
    house = Wheelhouse(tmp_path, NOWHERE)
    made = await house.bundle(HostPython.own())
    when = made.stat().st_mtime_ns
    assert await house.bundle(HostPython.own()) == made
    assert made.stat().st_mtime_ns == when
    assert not old.exists()


async def test_an_error_of_packing_arrives_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(HardpointError) as caught:
        await Wheelhouse(tmp_path, NOWHERE).bundle(OTHER)
    assert caught.value.code == "SYS.1006"
    assert "aarch64" in caught.value.details
