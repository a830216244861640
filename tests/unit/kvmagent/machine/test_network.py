import subprocess
import sys

import pytest

from kvmagent.machine import proc_net
from kvmagent.machine.network import (
    NETLINK_ARGV,
    Link,
    ask_netlink,
    lower_interfaces,
    merge,
    parse_netlink,
    read_network,
)
from kvmagent.machine.tree import Tree

TRIE = """Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
     +-- 192.0.2.0/24 2 0 2
           |-- 192.0.2.2
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
"""


def virtual(machine, name: str, **attributes: str) -> None:
    machine.write(f"/sys/devices/virtual/net/{name}/mtu", "1500\n")
    for attribute, content in attributes.items():
        machine.write(f"/sys/devices/virtual/net/{name}/{attribute.replace('__', '/')}", content)
    machine.link(f"/sys/class/net/{name}", f"../../devices/virtual/net/{name}")


def test_interfaces_of_a_recorded_server_are_read(recorded) -> None:
    found = {nic.name: nic for nic in read_network(Tree(recorded("eight-accelerators")))}
    assert list(found) == ["enp96s0f0", "enp96s0f1"]
    first = found["enp96s0f0"]
    assert (first.kind, first.driver, first.pci_address) == ("physical", "i40e", "0000:60:00.0")
    assert (first.state, first.speed_mbit, first.mtu) == ("up", 1000, 1500)
    assert (first.mac or "").startswith("ac:1f:6b:")


def test_addresses_and_default_route_come_from_proc(recorded) -> None:
    found = {nic.name: nic for nic in read_network(Tree(recorded("virtio-guest")))}
    assert found["eth0"].default_route
    assert found["eth0"].addresses[:2] == ["192.0.2.2/24", "fd00::2/64"]
    assert found["lo"].addresses == ["127.0.0.1/8", "::1/128"]
    assert not found["lo"].default_route


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"bridge__bridge_id": "8000"}, "bridge"),
        ({"bonding__mode": "802.3ad 4"}, "bond"),
        ({"tun_flags": "0x1002"}, "tun"),
        ({"uevent": "DEVTYPE=vxlan\nINTERFACE=x0\n"}, "vxlan"),
        ({"ifindex": "7\n", "iflink": "6\n"}, "veth"),
        ({"ifindex": "7\n", "iflink": "7\n"}, "virtual"),
    ],
)
def test_files_tell_the_kind_of_a_virtual_interface(machine, attributes: dict[str, str], kind: str) -> None:
    virtual(machine, "x0", **attributes)
    (nic,) = read_network(Tree(machine.root))
    assert nic.kind == kind


def test_stacked_interfaces_are_found_by_their_lower_links(machine) -> None:
    virtual(machine, "eth0")
    virtual(machine, "eth0.7")
    machine.link("/sys/devices/virtual/net/eth0.7/lower_eth0", "../eth0")
    assert lower_interfaces(Tree(machine.root)) == {"eth0.7": ["eth0"]}


def test_netlink_knows_better_where_it_was_asked(machine) -> None:
    virtual(machine, "eth0")
    virtual(machine, "lo")
    sysfs = read_network(Tree(machine.root))
    link = Link(kind="macvtap", master="br0", addresses=["192.0.2.9/32"], default_route=True)
    eth0, lo = merge(sysfs, {"eth0": link, "gone": link})
    assert (eth0.kind, eth0.master, eth0.addresses, eth0.default_route) == (
        "macvtap",
        "br0",
        ["192.0.2.9/32"],
        True,
    )
    assert lo == sysfs[1]
    assert merge(sysfs, None) == sysfs


def test_the_child_tells_the_links_of_the_running_machine() -> None:
    netlink = ask_netlink()
    assert netlink is not None
    assert "127.0.0.1/8" in netlink["lo"].addresses
    names = {nic.name for nic in read_network(Tree("/"))}
    assert names == set(netlink)


@pytest.mark.parametrize("printed", [b"", b"Traceback", b"[1]", b'{"lo": {}}', b"\xff\xfe"])
def test_what_is_no_answer_is_none(printed: bytes) -> None:
    assert parse_netlink(printed) is None


def test_readers_leave_the_heavy_library_to_the_child() -> None:
    heavy = ["pyroute2", "pyudev", "psutil", "asyncio", "aiohttp"]
    code = f"import sys, kvmagent.inventory, kvmagent.udev; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert NETLINK_ARGV[1:] == ("-m", "kvmagent.machine.network")


def test_only_routes_to_everywhere_that_are_up_are_default_routes() -> None:
    lines = [
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0",
        "eth1\t00000000\t010200C0\t0002\t0\t0\t0\t00000000\t0\t0\t0",
        "eth2\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
        "broken",
        "eth3\tzz\t0\t1\t0\t0\t0\t0\t0",
    ]
    zeros = "0" * 32
    ipv6 = [
        f"{zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth4",
        f"{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200 lo",
    ]
    assert proc_net.default_interfaces(proc_net.parse_routes(lines), ipv6) == {"eth0", "eth4"}


def test_an_address_belongs_to_the_interface_of_its_network() -> None:
    routes = proc_net.parse_routes(["eth2\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"])
    assert proc_net.ipv4_addresses(TRIE, routes) == {"eth2": {"192.0.2.2/24"}, "lo": {"127.0.0.1/8"}}
