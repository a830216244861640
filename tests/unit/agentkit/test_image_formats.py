from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from agentkit.errors import HardpointError
from agentkit.image_formats import HEADER_BYTES, describe
from tests.unit.storageagent.stores import qcow2

GIB = 1024**3


def test_the_disk_in_a_qcow2_image_has_the_size_that_its_header_says() -> None:
    for version in (2, 3):
        disk = describe(qcow2(10 * GIB, version=version), 200_000, "qcow2")
        assert (disk.format, disk.virtual_bytes) == ("qcow2", 10 * GIB)


def test_a_raw_disk_is_as_large_as_its_image() -> None:
    disk = describe(b"\0" * 512, 5 * GIB, "raw")
    assert (disk.format, disk.virtual_bytes) == ("raw", 5 * GIB)


def test_an_iso_is_known_by_its_volume_descriptor() -> None:
    header = bytearray(HEADER_BYTES)
    header[0x8001:0x8006] = b"CD001"
    assert describe(bytes(header), 700_000, "iso").format == "iso"


@pytest.mark.parametrize(
    ("header", "wanted", "reason"),
    [
        (qcow2(GIB), "raw", "it is qcow2, not raw"),
        (b"\0" * 4096, "qcow2", "it is not qcow2"),
        (b"\0" * 4096, "iso", "no ISO 9660"),
        (b"\0" * 4096, "vmdk", "its format is said to be vmdk"),
        (b"KDMV" + b"\0" * 600, "raw", "it is VMDK"),
        (b"vhdxfile" + b"\0" * 600, "raw", "it is VHDX"),
        (b"\0" * 0x40 + b"\x7f\x10\xda\xbe" + b"\0" * 100, "raw", "it is VDI"),
        (b"\x1f\x8b" + b"\0" * 600, "qcow2", "it is gzip"),
        (qcow2(GIB, backing=512), "qcow2", "needs a backing file"),
        (qcow2(GIB, encryption=2), "qcow2", "it is encrypted"),
        (qcow2(GIB, features=4), "qcow2", "data are in another file"),
        (qcow2(GIB, version=7), "qcow2", "version 7"),
        (qcow2(GIB)[:50], "qcow2", "cut off"),
        (b"", "raw", "it is empty"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(header: bytes, wanted: str, reason: str) -> None:
    with pytest.raises(HardpointError) as raised:
        describe(header, len(header), wanted)
    assert raised.value.code == "SYS.1006"
    assert reason in raised.value.details
    assert raised.value.remedy


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img (qemu-utils) is not installed")
@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_what_qemu_img_makes_is_read_as_it_was_made(tmp_path: Path, compat: str) -> None:
    image, whole = tmp_path / "overlay.qcow2", tmp_path / "whole.qcow2"
    options = ["-f", "qcow2", "-o", f"compat={compat}"]
    subprocess.run(["qemu-img", "create", "-q", *options, str(whole), "3G"], check=True)
    header = whole.read_bytes()[:HEADER_BYTES]
    assert describe(header, whole.stat().st_size, "qcow2").virtual_bytes == 3 * GIB
    subprocess.run(
        ["qemu-img", "create", "-q", *options, "-b", str(whole), "-F", "qcow2", str(image)], check=True
    )
    with pytest.raises(HardpointError, match="backing file"):
        describe(image.read_bytes()[:HEADER_BYTES], 1, "qcow2")
