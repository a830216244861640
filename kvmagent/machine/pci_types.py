"""The type and the names the API gives a PCI function; pure."""

from __future__ import annotations

import re

GPU_VENDORS = frozenset({"10de", "1002", "1022", "1d94"})
"""NVIDIA, AMD/ATI, AMD and Haiguang."""
MOXA_VENDOR = "1393"
GENERIC = "Generic"
PUBLISHED_TYPES = frozenset(
    {"GPU_Video_Controller", "GPU_Audio_Controller", "GPU_3D_Controller", "Moxa_Device", GENERIC}
)
"""The types that the 3.0 API knows."""

_GPU_TYPES = {
    "0300": "GPU_Video_Controller",
    "0380": "GPU_Video_Controller",
    "0403": "GPU_Audio_Controller",
    "0c03": "GPU_USB_Controller",
    "0c80": "GPU_Serial_Controller",
    "0302": "GPU_3D_Controller",
}
_TYPES = {
    "0200": "Ethernet_Controller",
    "0403": "Audio_Controller",
    "0c03": "USB_Controller",
    "0700": "Serial_Controller",
    "0600": "Host_Bridge",
    "0604": "PCI_Bridge",
    "1200": "GPU_Processing_Accelerators",
}
_BRACKETS = re.compile(r"\s*(\[[^\]]*\]|\([^)]*\))")
_ENDINGS = re.compile(
    r"[\s,]+(Corporation|Corp|Incorporated|Inc|Limited|Ltd|LLC|GmbH|AG|S\.?A|Co|Company)\.?$", re.IGNORECASE
)


def full_type(vendor_id: str, class_code: str) -> str:
    """Return the type in later releases' list, which tells more kinds apart than 3.0 does."""
    subclass = class_code[:4]
    if vendor_id in GPU_VENDORS and subclass in _GPU_TYPES:
        return _GPU_TYPES[subclass]
    if vendor_id == MOXA_VENDOR:
        return "Moxa_Device"
    return _TYPES.get(subclass, GENERIC)


def published_type(vendor_id: str, class_code: str) -> str:
    """Return the 3.0 API's PciDeviceType."""
    kind = full_type(vendor_id, class_code)
    return kind if kind in PUBLISHED_TYPES else GENERIC


def simplified(name: str) -> str:
    """Return a vendor's or device's name without bracketed parts and company endings."""
    short = _BRACKETS.sub("", name).strip() or name.strip("[]() ")
    while True:
        shorter = _ENDINGS.sub("", short).rstrip(" ,.")
        if shorter in {"", short}:
            return short
        short = shorter
