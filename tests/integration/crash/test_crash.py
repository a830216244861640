"""Whatever is killed while a host is added, the job ends once, nothing is done twice and nothing is
left over.
"""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.crash.sampling import SEEDS
from tests.integration.crash.scene import BACKWARD, FORWARD, Plan, plan, prepare, stage

AT_ONCE = 2


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("template")
    return folder, prepare(folder)


@pytest.mark.parametrize(("refused", "expected"), [(False, FORWARD), (True, BACKWARD)])
def test_the_scenes_know_every_boundary(
    template: tuple[Path, str], tmp_path: Path, refused: bool, expected: tuple[str, ...]
) -> None:
    scene = stage(template[0], tmp_path / "scene", template[1], Plan(0, refused))
    scene.play()
    assert tuple(scene.boundaries()) == expected


@pytest.mark.timeout(3600)
def test_a_host_is_added_once_or_not_at_all_whatever_is_killed(
    template: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures: list[str] = []
    counts = {"scenes": 0, "kills": 0}
    guard = threading.Lock()

    def play(seed: int) -> None:
        folder = tmp_path / str(seed)
        scene = stage(template[0], folder, template[1], plan(seed))
        try:
            scene.play()
        except Exception as error:  # noqa: BLE001 - all seeds are played, then all failures shown
            log = (folder / "mn.log").read_text()[-1500:]
            failures.append(f"seed {seed} {scene.plan}: {error!r}\n{log}")
        else:
            shutil.rmtree(folder)
        with guard:
            counts["scenes"] += 1
            counts["kills"] += scene.kills

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(play, range(SEEDS)))
    with capsys.disabled():
        print(f"\ncrash seeds: {counts['scenes']}, kills: {counts['kills']}, failures: {len(failures)}")
    assert not failures, "\n\n".join(failures)
    assert counts["scenes"] == SEEDS
    assert counts["kills"] >= SEEDS * 0.8
