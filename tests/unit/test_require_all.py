"""HARDPOINT_REQUIRE_ALL=1: nothing that CI must run is skipped unseen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = {
    "unit/test_skips.py": """
        import pytest

        def test_passes():
            pass

        def test_skips_itself():
            pytest.skip("needs a moon")

        @pytest.mark.skipif(True, reason="needs a sun")
        def test_is_marked():
            pass

        @pytest.fixture
        def star():
            pytest.skip("needs a star")

        def test_with_a_fixture_that_skips(star):
            pass

        @pytest.mark.xfail(reason="not yet")
        def test_fails_as_expected():
            assert False
        """,
    "bench/test_bench.py": """
        import pytest

        def test_skips_in_a_tier_that_is_not_required():
            pytest.skip("needs a peer")
        """,
}
MODULE_SKIP = "import pytest\n\npytest.importorskip('a_module_that_nobody_has')\n"


def run_suite(
    folder: Path, files: dict[str, str], require_all: str | None
) -> subprocess.CompletedProcess[str]:
    """Run `files` as the tests of a project with this project's conftest."""
    for name, text in files.items():
        path = folder / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("\n        ", "\n"))
    (folder / "tests" / "conftest.py").write_text((Path(__file__).parents[1] / "conftest.py").read_text())
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "HARDPOINT_"))
    }
    if require_all is not None:
        environment["HARDPOINT_REQUIRE_ALL"] = require_all
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        "-rfE",
        "tests",
    ]
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("unset", [None, "", "0"])
def test_skips_are_skips_unless_all_are_required(tmp_path: Path, unset: str | None) -> None:
    done = run_suite(tmp_path, SUITE, unset)
    assert done.returncode == 0
    assert "1 passed, 4 skipped, 1 xfailed" in done.stdout


def test_each_skip_of_a_required_tier_fails_and_says_why(tmp_path: Path) -> None:
    done = run_suite(tmp_path, SUITE, "1")
    assert done.returncode == 1
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 2 errors" in done.stdout
    for reason in ("needs a moon", "needs a sun", "needs a star"):
        assert f"was skipped: {reason}" in done.stdout
        assert f": {reason}\n" in done.stdout.split("skipped although HARDPOINT_REQUIRE_ALL is set")[1]
    assert "needs a peer" not in done.stdout


def test_a_module_that_skips_itself_fails_too(tmp_path: Path) -> None:
    done = run_suite(tmp_path, {"integration/test_module.py": MODULE_SKIP}, "1")
    assert done.returncode != 0
    assert "could not import 'a_module_that_nobody_has'" in done.stdout


def test_what_is_left_out_for_time_is_named_and_no_failure(tmp_path: Path) -> None:
    late = 'import pytest\n\ndef test_late():\n    pytest.skip("left out, as the time is up; run it later")\n'
    done = run_suite(tmp_path, {"lab/test_late.py": late}, "1")
    assert done.returncode == 0
    assert "tests/lab/test_late.py" in done.stdout.split(" left out, as the time is up ")[1]
