"""The cache of the lab: keys, folders that are whole, the oldest removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab import image_build, image_files, kept, places, runs
from tests.lab.image import current_key, key_of, meaning
from tests.lab.storage import wwid


def test_the_key_changes_with_what_the_images_are_made_of(tmp_path: Path) -> None:
    packages, recipe = tmp_path / "full.packages", tmp_path / "recipe.py"
    packages.write_text("lvm2\n")
    recipe.write_text("SIZE = 1\n")
    before = key_of([meaning(packages), meaning(recipe)])

    recipe.write_text("'''How large.'''\nSIZE = (\n    1  # as small as can be\n)\n")
    assert key_of([meaning(packages), meaning(recipe)]) == before
    recipe.write_text("SIZE = 2\n")
    assert key_of([meaning(packages), meaning(recipe)]) != before
    recipe.write_text("SIZE = 1\n")
    packages.write_text("lvm2\nsanlock\n")
    assert key_of([meaning(packages), meaning(recipe)]) != before


def test_the_key_tells_the_borders_of_parts() -> None:
    assert key_of([b"ab", b"c"]) != key_of([b"a", b"bc"])
    assert current_key() == current_key()


def test_the_bare_host_has_no_package_of_a_kvm_host() -> None:
    fresh, full = image_files.packages("fresh"), image_files.packages("full")
    assert not set(fresh) & set(full)
    assert not [name for name in fresh if "libvirt" in name or "qemu" in name]


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    def killed() -> None:
        with kept.made(tmp_path / "key") as partial:
            (partial / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert list(tmp_path.iterdir()) == []

    (tmp_path / "partial-of-a-killed-process").mkdir()
    with kept.made(tmp_path / "key") as partial:
        (partial / "whole").touch()
        assert not (tmp_path / "key").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_the_folders_used_last_stay_and_those_in_use(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "older", "oldest")):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    with (tmp_path / "oldest" / kept.IN_USE).open("w") as file:
        kept.fcntl.flock(file, kept.fcntl.LOCK_SH)
        os.utime(tmp_path / "oldest", (1, 1))
        kept.remove_old(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "oldest"]


def test_the_boot_sector_names_a_partition_over_the_rest_of_the_disk() -> None:
    sector = image_build.boot_sector(bytes(range(256)) * 2)
    assert len(sector) == 512
    assert sector[510:] == b"\x55\xaa"
    assert sector[:440] == (bytes(range(256)) * 2)[:440]
    begin, count = (int.from_bytes(sector[at : at + 4], "little") for at in (454, 458))
    assert begin * 512 == image_files.PARTITION_START
    assert (begin + count) * 512 == image_files.DISK_SIZE


def test_luns_differ_where_linux_looks() -> None:
    assert wwid(0) != wwid(1)
    assert len(wwid(0)) == 32


def test_a_process_is_not_mistaken_for_one_with_its_id() -> None:
    here = runs.Process.of(os.getpid())
    assert here is not None
    assert here.alive
    assert not runs.Process(here.pid, here.started + 1, here.boot).alive
    assert not runs.Process(here.pid, here.started, "another boot").alive


def test_a_cache_that_cannot_be_made_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(places.CACHE_VARIABLE, "/proc/nothing")
    with pytest.raises(places.LabError, match=r"/proc/nothing cannot be made.*set HARDPOINT_LAB_CACHE"):
        places.cache()
