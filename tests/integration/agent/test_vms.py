"""The agent and a real libvirtd, with VMs whose whole system is a boot sector."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests import spice
from tests.libvirtd import IDLE, OBEY_POWER_BUTTON, POWER_OFF, libvirtd, one_libvirtd, small_domain

__all__ = ["libvirtd", "one_libvirtd"]

WAIT_S = 60


@pytest.fixture
def kvmagent(make_agent, pki, tmp_path, libvirtd):
    config = tmp_path / "kvmagent.toml"
    config.write_text(
        f'listen_address = "127.0.0.1"\nport = 0\nstate_dir = "{tmp_path / "agent"}"\n'
        f'certificate = "{pki.directory / "server.pem"}"\nkey = "{pki.directory / "server.key"}"\n'
        f'ca = "{pki.ca_file}"\nlibvirt_uri = "{libvirtd.uri}"\nemulate = true\n'
    )
    argv = [sys.executable, "-m", "kvmagent.server", "serve", "--config", str(config)]
    return make_agent(command=argv).start()


def disk(path: Path, volume: str, place: int = 0, format: str = "raw"):  # noqa: A002
    return {"volumeUuid": volume, "path": str(path), "format": format, "deviceId": place}


@pytest.fixture
def domain(tmp_path):
    return lambda code: small_domain(tmp_path, code)


async def done(mn, new_uuid, command: str, **parameters):
    status, report = await mn.task(new_uuid(), {"command": command, **parameters}, wait=WAIT_S)
    assert (status, report["state"]) == (200, "Succeeded"), report
    return report["result"]


async def vm_of(mn, new_uuid, uuid: str):
    return (await done(mn, new_uuid, "getVm", uuid=uuid))["vm"]


async def test_a_vm_is_started_once_and_obeys_its_power_button(kvmagent, libvirtd, domain, new_uuid):
    async with kvmagent.client() as mn:
        wanted = domain(OBEY_POWER_BUTTON)
        started = (await done(mn, new_uuid, "startVm", domain=wanted))["vm"]
        assert started["state"] == "Running"
        assert (started["cpus"], started["memoryBytes"]) == (1, 32 * 2**20)
        assert started["disks"] == [wanted["disks"][0]["volumeUuid"]]
        assert started["consolePort"] >= 5900
        again = (await done(mn, new_uuid, "startVm", domain=wanted))["vm"]
        assert again["consolePort"] == started["consolePort"]
        assert len(libvirtd.processes()) == 1
        assert await done(mn, new_uuid, "stopVm", uuid=wanted["uuid"], patienceS=WAIT_S) == {"forced": False}
        assert await vm_of(mn, new_uuid, wanted["uuid"]) is None
        assert libvirtd.virsh("list", "--all", "--name").stdout.split() == []
        assert await done(mn, new_uuid, "stopVm", uuid=wanted["uuid"], patienceS=0) == {"forced": False}


async def test_a_vm_that_does_not_obey_loses_its_power(kvmagent, libvirtd, domain, new_uuid):
    async with kvmagent.client() as mn:
        wanted = domain(IDLE)
        await done(mn, new_uuid, "startVm", domain=wanted)
        assert await done(mn, new_uuid, "stopVm", uuid=wanted["uuid"], patienceS=0.5) == {"forced": True}
        assert (await done(mn, new_uuid, "listVms"))["vms"] == []


async def test_a_vm_that_ends_by_itself_is_told_of_within_a_second(kvmagent, libvirtd, domain, new_uuid):
    async with kvmagent.client() as mn, mn.events() as stream:
        wanted = domain(IDLE)
        await done(mn, new_uuid, "startVm", domain=wanted)
        (pid,) = libvirtd.processes()
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        while await vm_of(mn, new_uuid, wanted["uuid"]) is not None:
            event = await asyncio.wait_for(next_vm_event(stream), WAIT_S)
            assert event["data"] == {"uuid": wanted["uuid"]}
        assert time.monotonic() - killed < WAIT_S
        shut_down = domain(POWER_OFF)
        await mn.task(new_uuid(), {"command": "startVm", "domain": shut_down}, wait=WAIT_S)
        while (await asyncio.wait_for(next_vm_event(stream), WAIT_S))["data"]["uuid"] != shut_down["uuid"]:
            pass
        async with asyncio.timeout(WAIT_S):  # that may have told of its start
            while await vm_of(mn, new_uuid, shut_down["uuid"]) is not None:
                await asyncio.sleep(0.05)


async def next_vm_event(stream):
    while True:
        event = await stream()
        if event["kind"] == "vm":
            return event


async def test_vms_outlive_libvirtd_and_the_agent(kvmagent, libvirtd, domain, new_uuid):
    wanted = domain(IDLE)
    async with kvmagent.client() as mn:
        await done(mn, new_uuid, "startVm", domain=wanted)
        async with mn.events() as stream:
            libvirtd.kill()
            libvirtd.start()
            while (await asyncio.wait_for(next_vm_event(stream), WAIT_S))["data"]["uuid"] is not None:
                pass
        assert (await vm_of(mn, new_uuid, wanted["uuid"]))["state"] == "Running"
    kvmagent.kill()
    kvmagent.start()
    async with kvmagent.client() as mn:
        (found,) = (await done(mn, new_uuid, "listVms"))["vms"]
        assert found["uuid"] == wanted["uuid"]


async def test_a_vm_that_cannot_start_is_refused_with_libvirts_reason(kvmagent, libvirtd, domain, new_uuid):
    async with kvmagent.client() as mn:
        wanted = domain(IDLE)
        wanted["nics"] = [
            {"nicUuid": new_uuid(), "bridge": "br_none", "mac": "fa:00:00:00:00:01", "name": "v1.0"}
        ]
        _, report = await mn.task(new_uuid(), {"command": "startVm", "domain": wanted}, wait=WAIT_S)
        assert report["error"]["code"] == "SYS.1006"
        assert "br_none" in report["error"]["details"]
        Path(wanted["disks"][0]["path"]).unlink()
        _, report = await mn.task(new_uuid(), {"command": "startVm", "domain": wanted}, wait=WAIT_S)
        assert wanted["disks"][0]["path"] in report["error"]["details"]


async def test_a_disk_is_attached_once_and_only_a_vm_that_answers_lets_go(
    kvmagent, libvirtd, domain, new_uuid, tmp_path
):
    async with kvmagent.client() as mn:
        wanted = domain(IDLE)
        await done(mn, new_uuid, "startVm", domain=wanted)
        more = tmp_path / "more.raw"
        more.write_bytes(bytes(2**20))
        added = disk(more, new_uuid(), 1)
        for _ in range(2):
            vm = (await done(mn, new_uuid, "attachVmDisk", uuid=wanted["uuid"], disk=added))["vm"]
            assert added["volumeUuid"] in vm["disks"]
        parameters = {"uuid": wanted["uuid"], "volumeUuid": added["volumeUuid"], "patienceS": 1}
        _, report = await mn.task(new_uuid(), {"command": "detachVmDisk", **parameters}, wait=WAIT_S)
        assert report["error"]["code"] == "SYS.1001", "a guest without ACPI hot plug does not let go"
        assert added["volumeUuid"] in (await vm_of(mn, new_uuid, wanted["uuid"]))["disks"]
        await done(mn, new_uuid, "stopVm", uuid=wanted["uuid"], patienceS=0)
        assert await done(mn, new_uuid, "detachVmDisk", **parameters) == {"vm": None}


async def test_a_vm_takes_usb_devices_of_who_is_at_its_spice_screen(kvmagent, libvirtd, domain, new_uuid):
    async with kvmagent.client() as mn:
        plain, wanted = domain(IDLE), {**domain(IDLE), "usbRedirect": True}
        vm = (await done(mn, new_uuid, "startVm", domain=wanted))["vm"]
        assert (vm["usbRedirect"], vm["spicePort"] != vm["consolePort"]) == (True, True)
        assert vm["spicePort"] >= 5900
        xml = libvirtd.virsh("dumpxml", wanted["uuid"]).stdout
        assert xml.count("<redirdev bus='usb' type='spicevmc'>") == 4
        assert "name='com.redhat.spice.0'" in xml
        screen = (vm["consoleAddress"], vm["spicePort"])
        hello = await asyncio.to_thread(spice.usb_hello, *screen, wanted["consolePassword"])
        assert b"qemu usb-redir guest" in hello, "a USB controller of the VM talks to the screen's client"
        with pytest.raises(spice.SpiceError) as refused:
            await asyncio.to_thread(spice.usb_hello, *screen, "wrong")
        assert refused.value.code == spice.PERMISSION_DENIED
        vm = (await done(mn, new_uuid, "startVm", domain=plain))["vm"]
        assert (vm["usbRedirect"], vm["spicePort"]) == (False, None)


async def test_a_usb_device_that_is_not_there_is_refused_and_a_vm_starts_without_it(
    kvmagent, libvirtd, domain, new_uuid
):
    absent = {"deviceUuid": new_uuid(), "identity": [{"kind": "serial", "value": "0781:5581:NOBODYS"}]}
    wanted = {**domain(IDLE), "usb": [absent]}
    async with kvmagent.client() as mn:
        assert (await done(mn, new_uuid, "startVm", domain=wanted))["vm"]["devices"] == []
        (listed,) = (await done(mn, new_uuid, "listVms"))["vms"]
        assert listed["devices"] == [absent["deviceUuid"]], "the VM gets it when it comes"
        parameters = {"uuid": wanted["uuid"], "device": absent}
        _, report = await mn.task(new_uuid(), {"command": "attachVmUsb", **parameters}, wait=WAIT_S)
        assert report["error"]["code"] == "SYS.1006"
        assert "serial 0781:5581:NOBODYS" in report["error"]["details"]
        parameters = {"uuid": wanted["uuid"], "deviceUuid": absent["deviceUuid"], "patienceS": 1}
        assert (await done(mn, new_uuid, "detachVmUsb", **parameters))["vm"]["state"] == "Running"
        assert (await done(mn, new_uuid, "listVms"))["vms"][0]["devices"] == []
