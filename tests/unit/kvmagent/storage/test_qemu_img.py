from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit.errors import HardpointError
from kvmagent.storage.qemu_img import check_disk, create_argv, parse_info, rebase_argv, relative_backing

INFO: dict[str, Any] = {
    "virtual-size": 1073741824,
    "filename": "/a/b.qcow2",
    "cluster-size": 65536,
    "format": "qcow2",
    "actual-size": 200704,
    "format-specific": {"type": "qcow2", "data": {"compat": "1.1", "lazy-refcounts": False}},
    "backing-filename": "../c.qcow2",
    "full-backing-filename": "/c.qcow2",
    "dirty-flag": False,
}


def info(**more: Any) -> bytes:
    return json.dumps({**INFO, **more}).encode()


def test_what_qemu_img_says_becomes_a_disk() -> None:
    disk = parse_info(info())
    assert (disk.size, disk.actual_size, disk.format) == (1073741824, 200704, "qcow2")
    assert disk.backing == "../c.qcow2"


def test_an_image_with_its_data_in_another_file_is_refused() -> None:
    with pytest.raises(HardpointError, match="/etc/shadow"):
        parse_info(info(**{"format-specific": {"type": "qcow2", "data": {"data-file": "/etc/shadow"}}}))


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"virtual-size": "much", "format": "raw"}'])
def test_what_makes_no_sense_is_an_error(text: bytes) -> None:
    with pytest.raises(HardpointError, match="not known"):
        parse_info(text)


@pytest.mark.parametrize(
    ("path", "backing", "relative"),
    [
        ("dataVolumes/vol-a/a.qcow2", "imagecache/template/i/i.qcow2", "../../imagecache/template/i/i.qcow2"),
        ("dataVolumes/vol-a/s/b.qcow2", "dataVolumes/vol-a/a.qcow2", "../a.qcow2"),
        ("a.qcow2", "b.qcow2", "b.qcow2"),
        ("a.qcow2", None, None),
    ],
)
def test_images_name_what_is_below_them_from_where_they_are(
    path: str, backing: str | None, relative: str | None
) -> None:
    assert relative_backing(path, backing) == relative


def test_an_image_on_an_unexpected_one_is_refused() -> None:
    disk = parse_info(info(**{"backing-filename": "/etc/shadow"}))
    with pytest.raises(HardpointError, match=r"a\.qcow2 is qcow2 on /etc/shadow, not qcow2 on nothing"):
        check_disk(disk, "a.qcow2", "qcow2", None)
    assert check_disk(parse_info(info()), "x/a.qcow2", "qcow2", "../c.qcow2").backing == "../c.qcow2"


def test_commands_are_lists_of_words_with_formats_in_them() -> None:
    assert create_argv("/a b", "qcow2", 5, "c", "raw") == [
        *("qemu-img", "create", "-q", "-f", "qcow2", "-b", "c", "-F", "raw", "/a b", "5")
    ]
    assert create_argv("/a", "raw", 5, None, "qcow2") == ["qemu-img", "create", "-q", "-f", "raw", "/a", "5"]
    assert rebase_argv("/a", None, "qcow2") == ["qemu-img", "rebase", "-q", "-f", "qcow2", "-b", "", "/a"]
