import pytest

from kvmagent.machine.pci import is_universal, read_pci
from kvmagent.machine.tree import Tree
from kvmagent.protocol import PciFunction

GPU = "10de:1db4:10de:1214"
BRIDGE = "8086:2030:8086:0000"


def by_address(tree: Tree) -> dict[str, PciFunction]:
    return {function.address: function for function in read_pci(tree)}


def evidence(function: PciFunction, kind: str) -> list[str]:
    return [item.value for item in function.identity if item.kind == kind]


def serial_capability(serial: str) -> bytes:
    """Return a configuration space whose second extended capability is the device serial number."""
    config = bytearray(4096)
    config[0x100:0x104] = (0x0001 | 1 << 16 | 0x148 << 20).to_bytes(4, "little")
    config[0x148:0x14C] = (0x0003 | 1 << 16).to_bytes(4, "little")
    config[0x14C:0x154] = bytes.fromhex(serial.replace("-", ""))[::-1]
    return bytes(config)


def test_all_functions_of_the_recorded_servers_are_found(recorded) -> None:
    assert len(read_pci(Tree(recorded("four-socket-2013")))) == 37
    accelerators = read_pci(Tree(recorded("eight-accelerators")))
    assert len(accelerators) == 28
    assert sum(function.vendor_id == "1bcf" for function in accelerators) == 8


@pytest.mark.parametrize("name", ["four-socket-2013", "eight-accelerators", "virtio-guest"])
def test_every_function_of_a_recorded_machine_has_a_path_of_its_own(recorded, name: str) -> None:
    paths = [evidence(function, "path") for function in read_pci(Tree(recorded(name)))]
    assert all(len(path) == 1 for path in paths)
    assert len({path[0] for path in paths}) == len(paths)


def test_a_recorded_nic_is_told_by_its_permanent_mac(recorded) -> None:
    nic = by_address(Tree(recorded("four-socket-2013")))["0000:02:00.0"]
    assert [item.kind for item in nic.identity] == ["mac", "path"]
    assert nic.identity[0].value.startswith("14e4:1639:78:2b:cb:")
    assert (nic.driver, nic.class_code, nic.numa_node, nic.iommu_group) == ("bnx2", "020000", None, None)
    assert (nic.subvendor_id, nic.subdevice_id, nic.revision) == ("1028", "02d3", "20")


def test_names_come_from_the_pci_ids_of_the_machine(recorded) -> None:
    disk = by_address(Tree(recorded("virtio-guest")))["0000:00:02.0"]
    assert disk.name == "Red Hat_Virtio 1.0 block device"
    assert disk.description == "Mass storage controller: Red Hat, Inc. Virtio 1.0 block device"


def test_ids_stand_in_for_names_that_are_not_known(machine) -> None:
    machine.pci("pci0000:00/0000:00:02.0", GPU, "030200")
    (gpu,) = read_pci(Tree(machine.root))
    assert (gpu.name, gpu.description) == ("10de_1db4", "030200: 10de 1db4")
    assert gpu.type == "GPU_3D_Controller"


def test_a_function_without_vendor_or_device_is_left_out(machine) -> None:
    machine.pci("pci0000:00/0000:00:02.0", "10de", "030000")
    machine.pci("pci0000:00/0000:00:03.0", GPU, "030000")
    machine.link("/sys/bus/pci/devices/0000:00:04.0", "../../../devices/gone")
    assert [function.address for function in read_pci(Tree(machine.root))] == ["0000:00:03.0"]


def test_configuration_space_stands_in_for_attributes_that_are_missing(machine) -> None:
    header = bytearray(64)
    header[0x08:0x0C] = bytes([0xA1, 0x00, 0x02, 0x03])
    header[0x2C:0x30] = bytes([0xDE, 0x10, 0x14, 0x12])
    path = "pci0000:00/0000:00:02.0"
    machine.pci(path, "10de:1db4", "030200", config=bytes(header))
    (machine.root / "sys/devices" / path / "class").unlink()
    (gpu,) = read_pci(Tree(machine.root))
    assert (gpu.class_code, gpu.revision, gpu.subvendor_id, gpu.subdevice_id) == (
        "030200",
        "a1",
        "10de",
        "1214",
    )


def test_group_and_node_are_those_of_the_kernel(machine) -> None:
    path = "pci0000:00/0000:00:02.0"
    machine.pci(path, GPU, "030200", numa_node="1\n")
    machine.link(f"/sys/devices/{path}/iommu_group", "../../../kernel/iommu_groups/17")
    (gpu,) = read_pci(Tree(machine.root))
    assert (gpu.iommu_group, gpu.numa_node) == ("/sys/kernel/iommu_groups/17", 1)


def test_identical_cards_in_two_slots_have_different_paths(machine) -> None:
    for port, bus in (("01.0", "01"), ("02.0", "02")):
        machine.pci(f"pci0000:00/0000:00:{port}", BRIDGE, "060400")
        machine.pci(f"pci0000:00/0000:00:{port}/0000:{bus}:00.0", GPU, "030200")
    found = by_address(Tree(machine.root))
    paths = [evidence(found[address], "path") for address in ("0000:01:00.0", "0000:02:00.0")]
    assert paths == [
        ["root0/01.0-8086:2030/00.0-10de:1db4:10de:1214"],
        ["root0/02.0-8086:2030/00.0-10de:1db4:10de:1214"],
    ]


def test_a_path_outlives_a_renumbering_of_the_buses(machine, tmp_path) -> None:
    identities = []
    for number, (root, bus) in enumerate((("16", "17"), ("3a", "3b"))):
        made = type(machine)(tmp_path / f"boot{number}")
        made.pci("pci0000:00/0000:00:1f.0", "8086:a1c1:8086:7270", "060100")
        made.pci(f"pci0000:{root}/0000:{root}:02.0", BRIDGE, "060400")
        made.pci(f"pci0000:{root}/0000:{root}:02.0/0000:{bus}:00.0", GPU, "030200")
        identities.append(by_address(Tree(made.root))[f"0000:{bus}:00.0"].identity)
    assert identities[0] == identities[1]


def test_the_firmware_name_of_a_root_is_preferred(machine) -> None:
    machine.pci("pci0000:17/0000:17:02.0", GPU, "030200")
    machine.write("/sys/devices/pci0000:17/firmware_node/path", "\\_SB_.PC01\n")
    (gpu,) = read_pci(Tree(machine.root))
    assert evidence(gpu, "path") == ["\\_SB_.PC01/02.0-10de:1db4:10de:1214"]


def test_the_serial_number_capability_is_the_strongest_evidence(machine) -> None:
    config = serial_capability("00-11-22-33-44-55-66-77")
    machine.pci("pci0000:00/0000:00:01.0", BRIDGE, "060400")
    for function in ("0", "1"):
        machine.pci(f"pci0000:00/0000:00:01.0/0000:01:00.{function}", GPU, "020000", config=config)
    found = by_address(Tree(machine.root))
    assert found["0000:01:00.0"].identity[0].value == "10de:1db4:00-11-22-33-44-55-66-77@0"
    assert found["0000:01:00.1"].identity[0].value == "10de:1db4:00-11-22-33-44-55-66-77@1"


def test_a_serial_number_that_two_cards_share_is_no_evidence(machine) -> None:
    config = serial_capability("00-11-22-33-44-55-66-77")
    for port, bus in (("01.0", "01"), ("02.0", "02")):
        machine.pci(f"pci0000:00/0000:00:{port}", BRIDGE, "060400")
        machine.pci(f"pci0000:00/0000:00:{port}/0000:{bus}:00.0", GPU, "030200", config=config)
    found = by_address(Tree(machine.root))
    assert [item.kind for item in found["0000:01:00.0"].identity] == ["path"]


def test_an_nvme_disk_is_told_by_its_serial_number(machine) -> None:
    path = "pci0000:00/0000:00:02.0"
    machine.pci(path, "144d:a808:144d:a801", "010802")
    machine.write(f"/sys/devices/{path}/nvme/nvme0/serial", "S4EUNX0N123456      \n")
    (disk,) = read_pci(Tree(machine.root))
    assert evidence(disk, "serial") == ["144d:a808:S4EUNX0N123456@0"]


def test_a_virtual_function_is_told_by_its_place_at_the_physical_one(machine) -> None:
    nic = "pci0000:00/0000:00:02.0"
    machine.pci(nic, "8086:1572:8086:0001", "020000")
    machine.pci("pci0000:00/0000:00:02.5", "8086:154c:8086:0000", "020000")
    machine.link("/sys/devices/pci0000:00/0000:00:02.5/physfn", "../0000:00:02.0")
    machine.link(f"/sys/devices/{nic}/virtfn3", "../0000:00:02.5")
    net = "/sys/devices/pci0000:00/0000:00:02.5/net/eth9"
    machine.write(f"{net}/address", "3c:fd:fe:00:00:01\n")
    machine.write(f"{net}/addr_assign_type", "0\n")
    function = by_address(Tree(machine.root))["0000:00:02.5"]
    assert [item.value for item in function.identity] == [
        "root0/02.0-8086:1572/vf3-8086:154c:8086:0000",
    ]


@pytest.mark.parametrize(
    ("mac", "assigned", "kinds"),
    [
        ("3c:fd:fe:00:00:01", "0", ["mac", "path"]),
        ("3c:fd:fe:00:00:01", "3", ["path"]),
        ("52:54:00:00:00:01", "0", ["path"]),
        ("00:00:00:00:00:00", "0", ["path"]),
        ("", "0", ["path"]),
    ],
)
def test_only_a_makers_permanent_mac_is_evidence(machine, mac: str, assigned: str, kinds: list[str]) -> None:
    path = "pci0000:00/0000:00:02.0"
    machine.pci(path, "8086:1572:8086:0001", "020000")
    machine.write(f"/sys/devices/{path}/net/eth0/address", mac)
    machine.write(f"/sys/devices/{path}/net/eth0/addr_assign_type", assigned)
    (nic,) = read_pci(Tree(machine.root))
    assert [item.kind for item in nic.identity] == kinds


def test_group_addresses_are_not_universal() -> None:
    assert is_universal("00:1b:21:00:00:01")
    assert not is_universal("01:00:5e:00:00:01")
    assert not is_universal("80:00:02:08:fe:80:00:00:00:00:00:00")
