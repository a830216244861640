"""What VMs want outlives the agent."""

from pathlib import Path

import pytest

from agentkit.errors import HardpointError
from kvmagent.protocol_vms import VmUsbDevice
from kvmagent.usb_sharing.wants import WANTS_FILE, Wants
from tests.unit.kvmagent.usb_sharing.sticks import stick

VM = "1" * 32
WANT = VmUsbDevice(device_uuid="a" * 32, identity=stick("A1").identity)


async def test_what_is_wanted_is_there_for_the_next_agent_until_it_is_forgotten(tmp_path: Path) -> None:
    wants = Wants(tmp_path)
    assert (wants.vms(), wants.of(VM)) == ([], [])
    await wants.put(VM, [WANT])
    again = Wants(tmp_path)
    assert (again.vms(), again.of(VM)) == ([VM], [WANT])
    await again.put(VM, ())
    assert Wants(tmp_path).vms() == []


async def test_nothing_is_written_for_vms_without_devices(tmp_path: Path) -> None:
    await Wants(tmp_path).put(VM, ())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_makes_no_sense_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / WANTS_FILE).write_text("{")
    with pytest.raises(HardpointError) as caught:
        Wants(tmp_path)
    assert str(tmp_path / WANTS_FILE) in caught.value.details
    assert "remove the file" in caught.value.remedy
