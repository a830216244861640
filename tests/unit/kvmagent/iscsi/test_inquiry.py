from __future__ import annotations

from pathlib import Path

import pytest

from kvmagent.iscsi.inquiry import GONE, SILENT, THERE, main, verdict

FIXED = bytes([0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x25, 0])
DESCRIPTOR = bytes([0x72, 5, 0x25, 0]) + bytes(20)
OTHER = bytes([0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0])


@pytest.mark.parametrize(
    ("status", "host", "first", "sense", "meaning"),
    [
        (0, 0, 0x00, b"", THERE),
        (0, 0, 0x7F, b"", GONE),
        (2, 0, 0x00, FIXED, GONE),
        (2, 0, 0x00, DESCRIPTOR, GONE),
        (2, 0, 0x00, OTHER, THERE),
        (0, 1, 0x7F, b"", SILENT),
        (8, 0, 0x00, b"", SILENT),
    ],
)
def test_only_what_the_target_says_makes_a_lun_gone(
    status: int, host: int, first: int, sense: bytes, meaning: int
) -> None:
    assert verdict(status, host, first, sense) == meaning


def test_what_is_no_disk_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(str(tmp_path / "file")) == SILENT
    assert main(str(tmp_path / "absent")) == SILENT
