"""The guests themselves: each role has what it promises."""

from __future__ import annotations

import asyncio
import re

import asyncssh
import pytest

from tests.lab.lab import Lab
from tests.lab.machine import ROLES


def group(lab: Lab, address: str) -> str:
    """The IOMMU group of a device of kvm1, as a path."""
    return lab.guest("kvm1").run(f"readlink /sys/bus/pci/devices/{address}/iommu_group").strip()


@pytest.mark.parametrize("name", ["kvm1", "kvm2", "san", "fresh"])
def test_a_guest_knows_its_name_addresses_and_identity(lab: Lab, name: str) -> None:
    guest = lab.guest(name)
    assert guest.run("hostname").strip() == name
    assert guest.run("cat /etc/machine-id").strip() == ROLES[name].machine_id.hex
    shown = guest.run("ip -4 -o address show scope global")
    assert re.findall(r"inet (\S+)/24", shown) == [guest.address, guest.second_address]


def test_hosts_and_the_storage_server_have_initiator_names_of_their_own(lab: Lab) -> None:
    names = {name: lab.guest(name).run("cat /etc/iscsi/initiatorname.iscsi") for name in ("kvm1", "kvm2")}
    assert len(set(names.values())) == 2
    assert all(f":{name}" in line for name, line in names.items())


def test_a_bare_host_has_ssh_and_python_and_nothing_of_ours(lab: Lab) -> None:
    fresh = lab.guest("fresh")
    assert fresh.run("python3 -c 'import sys; print(sys.version_info >= (3, 11))'").strip() == "True"
    for command in ("virsh", "qemu-system-x86_64", "kvmagent", "pip3", "iscsiadm"):
        assert fresh.try_run(f"command -v {command}").returncode != 0, command


def test_root_logs_in_with_the_password_and_not_with_another(lab: Lab) -> None:
    guest = lab.guest("fresh")

    async def user(password: str) -> str | bytes | None:
        async with asyncssh.connect(
            guest.address,
            username="root",
            password=password,
            known_hosts=None,
            client_keys=None,
            connect_timeout=60,
            login_timeout=120,
        ) as connection:
            return (await connection.run("id -un")).stdout

    assert asyncio.run(user(guest.password)) == "root\n"
    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(user("guess"))


def test_guests_reach_each_other_and_the_node_on_both_networks(lab: Lab) -> None:
    kvm1, san = lab.guest("kvm1"), lab.guest("san")
    for address in (san.address, san.second_address, "10.99.0.1", "10.99.1.1"):
        kvm1.run(f"ping -c1 -W5 {address}")


def test_a_pulled_cable_is_noticed(lab: Lab) -> None:
    kvm2 = lab.guest("kvm2")
    kvm2.link(1, up=False)
    kvm2.wait_for("grep -q down /sys/class/net/eth1/operstate")
    kvm2.link(1, up=True)
    kvm2.wait_for("grep -q up /sys/class/net/eth1/operstate")


def test_the_first_host_has_the_devices_to_pass_through(lab: Lab) -> None:
    kvm1 = lab.guest("kvm1")
    shown = kvm1.run("udevadm settle -t 20; lspci -n")
    for name, ids in {
        "network card": "8086:10d3",
        "graphics card": "1234:1111",
        "its sound": "8086:2668",
        "NVMe": "1b36:0010",
        "device without driver": "1234:11e8",
        "USB controller": "1b36:000d",
        "watchdog": "8086:25ab",
    }.items():
        assert ids in shown, f"{name} is missing in\n{shown}"
    usb = kvm1.run("lsusb")
    for ids in ("46f4:0001", "0627:0001", "0409:55aa"):
        assert ids in usb, usb


def test_the_graphics_card_and_its_sound_share_an_iommu_group_and_others_have_their_own(lab: Lab) -> None:
    lab.guest("kvm1")
    card = group(lab, "0000:04:00.0")
    assert group(lab, "0000:04:00.1") == card
    assert len({card, *(group(lab, f"0000:0{bus}:00.0") for bus in (1, 2, 3, 5))}) == 5


def test_a_device_goes_to_vfio_and_back(lab: Lab) -> None:
    device = "/sys/bus/pci/devices/0000:01:00.0"
    script = f"""set -e
modprobe vfio-pci
echo vfio-pci >{device}/driver_override
echo 0000:01:00.0 >{device}/driver/unbind
echo 0000:01:00.0 >/sys/bus/pci/drivers_probe
readlink {device}/driver; ls /dev/vfio
echo 0000:01:00.0 >{device}/driver/unbind
echo >{device}/driver_override
echo 0000:01:00.0 >/sys/bus/pci/drivers_probe
readlink {device}/driver"""
    shown = lab.guest("kvm1").run(script)
    assert re.search(r"vfio-pci.*\n(\d+\n)+vfio\n.*e1000e", shown), shown


def test_the_second_host_has_an_iommu_too(lab: Lab) -> None:
    assert int(lab.guest("kvm2").run("ls /sys/kernel/iommu_groups | wc -l")) > 3


DOMAIN = """<domain type='kvm'><name>tiny</name><memory unit='MiB'>160</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>/var/lib/lab/vmlinuz</kernel>
<initrd>/var/lib/lab/nested.cpio</initrd>
<cmdline>console=ttyS0 quiet mitigations=off nokaslr no5lvl tsc=reliable no_timer_check</cmdline></os>
<features><acpi/><apic/></features><on_poweroff>destroy</on_poweroff><on_crash>destroy</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<serial type='file'><source path='/var/log/libvirt/tiny.log'/></serial><memballoon model='none'/></devices>
</domain>"""


def test_a_virtual_machine_runs_in_a_guest_under_kvm(lab: Lab) -> None:
    kvm1 = lab.guest("kvm1")
    kvm1.write("/root/tiny.xml", DOMAIN)
    kvm1.run("virsh create /root/tiny.xml", 180)
    kvm1.wait_for("grep -q 'NESTED UP' /var/log/libvirt/tiny.log", 900)
    kvm1.run("virsh destroy tiny")


def test_a_guest_that_is_paused_answers_again_when_it_is_resumed(lab: Lab) -> None:
    kvm2 = lab.guest("kvm2")
    kvm2.pause()
    assert kvm2.qmp.command("query-status")["status"] == "paused"
    kvm2.resume()
    kvm2.run("true")


def test_a_guest_that_is_shut_down_by_its_button_is_off_and_keeps_its_disk(lab: Lab) -> None:
    kvm2 = lab.guest("kvm2")
    kvm2.run("echo kept >/root/note")
    kvm2.shut_down()
    assert not kvm2.running
    kvm2.start(keep_disks=True)
    kvm2.wait()
    assert kvm2.run("cat /root/note").strip() == "kept"


@pytest.mark.long
def test_a_reset_guest_boots_again(lab: Lab) -> None:
    kvm2 = lab.guest("kvm2")
    before = kvm2.run("cat /proc/sys/kernel/random/boot_id")
    kvm2.reset()
    kvm2.wait()
    assert kvm2.run("cat /proc/sys/kernel/random/boot_id") != before
