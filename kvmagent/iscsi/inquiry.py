"""Asks a SCSI disk whether its LUN is still there; a script of its own: a lost path holds it up.

`inquiry.py /dev/sdb` ends with 0 when the LUN is there, with 1 when the target says that there is none, and
with 2 when nobody says anything.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys

THERE, GONE, SILENT = 0, 1, 2
_SG_IO = 0x2285
_FROM_DEVICE = -3
_TIMEOUT_MS = 8000
_INQUIRY = bytes((0x12, 0, 0, 0, 96, 0))
_CHECK_CONDITION = 2
_NO_SUCH_UNIT = 0x25
_QUALIFIER_SHIFT, _NO_DEVICE = 5, 3
_FIXED = (0x70, 0x71)


class _SgIo(ctypes.Structure):
    _fields_ = (
        ("interface_id", ctypes.c_int),
        ("dxfer_direction", ctypes.c_int),
        ("cmd_len", ctypes.c_ubyte),
        ("mx_sb_len", ctypes.c_ubyte),
        ("iovec_count", ctypes.c_ushort),
        ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p),
        ("cmdp", ctypes.c_void_p),
        ("sbp", ctypes.c_void_p),
        ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("pack_id", ctypes.c_int),
        ("usr_ptr", ctypes.c_void_p),
        ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte),
        ("msg_status", ctypes.c_ubyte),
        ("sb_len_wr", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort),
        ("driver_status", ctypes.c_ushort),
        ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint),
        ("info", ctypes.c_uint),
    )


def verdict(status: int, host_status: int, first_byte: int, sense: bytes) -> int:
    """Return what an answer to INQUIRY means: SCSI status, the host adapter's, the first byte, sense data."""
    if host_status:
        return SILENT
    if status == _CHECK_CONDITION and len(sense) > 12:
        code = sense[12] if sense[0] & 0x7F in _FIXED else sense[2]
        return GONE if code == _NO_SUCH_UNIT else THERE
    if status:
        return SILENT
    return GONE if first_byte >> _QUALIFIER_SHIFT == _NO_DEVICE else THERE


def main(device: str) -> int:
    """Ask; return the exit code."""
    data, sense = ctypes.create_string_buffer(96), ctypes.create_string_buffer(32)
    command = ctypes.create_string_buffer(_INQUIRY, len(_INQUIRY))
    request = _SgIo(
        interface_id=ord("S"),
        dxfer_direction=_FROM_DEVICE,
        cmd_len=len(_INQUIRY),
        mx_sb_len=len(sense),
        dxfer_len=len(data),
        dxferp=ctypes.cast(data, ctypes.c_void_p),
        cmdp=ctypes.cast(command, ctypes.c_void_p),
        sbp=ctypes.cast(sense, ctypes.c_void_p),
        timeout=_TIMEOUT_MS,
    )
    try:
        handle = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(handle, _SG_IO, request)
        finally:
            os.close(handle)
    except OSError:
        return SILENT
    return verdict(request.status, request.host_status, data.raw[0], sense.raw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
