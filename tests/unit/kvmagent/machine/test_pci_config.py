from hypothesis import given
from hypothesis import strategies as st

from kvmagent.machine import pci_config

SERIAL = bytes.fromhex("7766554433221100")


def capability(kind: int, following: int) -> bytes:
    return (kind | 1 << 16 | following << 20).to_bytes(4, "little")


def reader(config: bytes) -> pci_config.Read:
    return lambda offset, size: config[offset : offset + size]


def space(*pieces: tuple[int, bytes]) -> bytes:
    config = bytearray(4096)
    for offset, data in pieces:
        config[offset : offset + len(data)] = data
    return bytes(config)


def test_the_serial_number_is_found_behind_other_capabilities() -> None:
    config = space((0x100, capability(1, 0x148)), (0x148, capability(3, 0x200) + SERIAL))
    assert pci_config.device_serial(reader(config)) == "00-11-22-33-44-55-66-77"


def test_a_truncated_space_has_no_serial_number() -> None:
    config = space((0x100, capability(3, 0) + SERIAL))
    for length in (0, 64, 256, 0x100, 0x102, 0x104, 0x10B):
        assert pci_config.device_serial(reader(config[:length])) is None
    assert pci_config.device_serial(reader(config[:0x10C])) == "00-11-22-33-44-55-66-77"


def test_capabilities_that_go_round_in_a_circle_end() -> None:
    config = space((0x100, capability(1, 0x140)), (0x140, capability(2, 0x100)))
    assert pci_config.device_serial(reader(config)) is None


def test_an_absent_device_and_dummy_numbers_have_no_serial_number() -> None:
    assert pci_config.device_serial(reader(b"\xff" * 4096)) is None
    for dummy in (b"\0" * 8, b"\xff" * 8):
        assert pci_config.device_serial(reader(space((0x100, capability(3, 0) + dummy)))) is None


def vpd(serial: bytes) -> bytes:
    fields = b"PN\x04X540" + b"SN" + bytes([len(serial)]) + serial + b"RV\x01\x00"
    title = b"Ethernet adapter"
    header = b"\x82" + len(title).to_bytes(2, "little") + title
    return header + b"\x90" + len(fields).to_bytes(2, "little") + fields + b"\x78"


def test_the_serial_number_of_vital_product_data_is_read() -> None:
    assert pci_config.vpd_serial(vpd(b"A1B2C3  ")) == "A1B2C3"
    assert pci_config.vpd_serial(vpd(b"0000")) is None
    assert pci_config.vpd_serial(vpd(b"\xff\xfe")) is None
    assert pci_config.vpd_serial(vpd(b"A1B2C3")[:30]) is None


def test_a_bridge_header_has_no_subsystem_ids() -> None:
    config = bytearray(64)
    config[0x0E] = 0x81
    assert pci_config.subsystem(bytes(config)) is None


@given(st.binary(max_size=4096), st.binary(max_size=300))
def test_garbage_never_raises(config: bytes, tail: bytes) -> None:
    space_of_garbage = config.ljust(0x100, b"\0") + tail
    for data in (config, tail, space_of_garbage):
        pci_config.device_serial(reader(data))
        pci_config.vpd_serial(data)
        pci_config.subsystem(data)
        pci_config.class_code(data)
        pci_config.revision(data)


@given(st.binary(min_size=0, max_size=200))
def test_garbage_between_vpd_tags_never_raises(fields: bytes) -> None:
    pci_config.vpd_serial(b"\x90" + len(fields).to_bytes(2, "little") + fields)
