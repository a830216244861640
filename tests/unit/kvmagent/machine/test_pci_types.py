import pytest

from kvmagent.machine.pci_types import full_type, published_type, simplified


@pytest.mark.parametrize(
    ("vendor", "class_code", "full", "published"),
    [
        ("10de", "030000", "GPU_Video_Controller", "GPU_Video_Controller"),
        ("1002", "038000", "GPU_Video_Controller", "GPU_Video_Controller"),
        ("1d94", "030200", "GPU_3D_Controller", "GPU_3D_Controller"),
        ("10de", "040300", "GPU_Audio_Controller", "GPU_Audio_Controller"),
        ("1022", "0c0330", "GPU_USB_Controller", "Generic"),
        ("10de", "0c8000", "GPU_Serial_Controller", "Generic"),
        ("10de", "060400", "PCI_Bridge", "Generic"),
        ("1393", "070002", "Moxa_Device", "Moxa_Device"),
        ("1393", "078000", "Moxa_Device", "Moxa_Device"),
        ("9710", "070002", "Serial_Controller", "Generic"),
        ("8086", "030000", "Generic", "Generic"),
        ("102b", "030000", "Generic", "Generic"),
        ("1a03", "030000", "Generic", "Generic"),
        ("8086", "020000", "Ethernet_Controller", "Generic"),
        ("8086", "040300", "Audio_Controller", "Generic"),
        ("8086", "0c0330", "USB_Controller", "Generic"),
        ("8086", "060000", "Host_Bridge", "Generic"),
        ("1da3", "120000", "GPU_Processing_Accelerators", "Generic"),
        ("144d", "010802", "Generic", "Generic"),
    ],
)
def test_the_first_rule_that_fits_gives_the_type(vendor, class_code, full, published) -> None:
    assert full_type(vendor, class_code) == full
    assert published_type(vendor, class_code) == published


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("NVIDIA Corporation", "NVIDIA"),
        ("Advanced Micro Devices, Inc. [AMD/ATI]", "Advanced Micro Devices"),
        ("Moxa Technologies Co Ltd", "Moxa Technologies"),
        ("GV100GL [Tesla V100 PCIe 32GB]", "GV100GL"),
        ("[whole name]", "whole name"),
        ("Corporation", "Corporation"),
        ("Samsung Electronics Co., Ltd.", "Samsung Electronics"),
    ],
)
def test_company_endings_and_brackets_are_dropped_from_names(name: str, short: str) -> None:
    assert simplified(name) == short
