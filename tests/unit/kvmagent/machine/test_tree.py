import os
from pathlib import Path

from kvmagent.machine.tree import Tree


def test_a_link_out_of_the_root_is_read_inside_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/absolute").symlink_to(tmp_path / "secret")
    (root / "etc/relative").symlink_to("../../../secret")
    (root / "etc/up").symlink_to("../../..")
    tree = Tree(root)
    assert tree.text("/etc/absolute") is None
    assert tree.text("/etc/relative") is None
    assert tree.text("/etc/up/secret") is None
    assert tree.text("/../../secret") is None
    (root / "secret").write_text("inside")
    assert tree.text("/etc/relative") == "inside"
    assert tree.names("/etc/up") == ["etc", "secret"]


def test_an_absolute_link_starts_at_the_root_again(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text("ID=debian\n")
    (tmp_path / "etc").symlink_to("/usr/lib")
    assert Tree(tmp_path).text("/etc/os-release") == "ID=debian"
    assert Tree(tmp_path).resolve("/etc/os-release") == "/usr/lib/os-release"


def test_links_that_loop_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    tree = Tree(tmp_path)
    assert tree.resolve("/a") is None
    assert tree.text("/a/x") is None
    assert tree.names("/a") == []
    assert not tree.exists("/a")


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "words").write_text("ten\n")
    (tmp_path / "empty").write_text("\n")
    tree = Tree(tmp_path)
    assert tree.bytes("/directory") is None
    assert tree.int("/words") is None
    assert tree.int("/missing") is None
    assert tree.text("/empty") is None
    assert tree.text("/nul\0byte") is None


def test_a_fifo_does_not_hold_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not Tree(tmp_path).bytes("/pipe")


def test_a_part_of_a_file_is_read_from_its_offset(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)) * 1000)
    tree = Tree(tmp_path)
    assert tree.bytes("/file", 3, 98) == bytes([98, 99, 0])
    assert tree.bytes("/file") == bytes(range(100)) * 1000


def test_files_of_proc_sys_are_read_although_they_refuse_large_reads() -> None:
    assert Tree("/").text("/proc/sys/kernel/random/boot_id")
