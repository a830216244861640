"""Whether a VM takes USB devices of who is at its screen (manual 4.3.12.1, 4.3.12.2): a system tag of it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from sqlalchemy import Connection

from agentkit.errors import HardpointError
from mn.facilities.common import find
from mn.facilities.hosts.tables import load_host
from mn.facilities.pci.iommu import NOTICE
from mn.facilities.tags.rules import set_tag
from mn.facilities.vms.allocation import Placed
from mn.facilities.vms.domain_devices import REDIRECT_TAG, load_redirect
from mn.facilities.vms.domains import look_at
from mn.facilities.vms.tables import VM, State
from mn.rest.operation import Action, Get, Reply
from mn.rest.services import Call, Job
from mn.rest.types import Ref

Enable = Annotated[bool, Meta(description="whether the VM takes USB devices of who is at its screen")]


class GetVmUsbRedirect(Get, path="/vm-instances/{uuid}/usbredirect", returns={"enable": Enable}):
    """Say whether a VM is to take USB devices of who is at its SPICE screen (manual 4.3.12.1).

    The header X-Hardpoint-Notice says when a running VM was started otherwise.
    """

    uuid: Ref

    async def answer(self, call: Call) -> Reply:
        """Read what is wanted, and ask the VM's host how it runs."""
        enable = await call.services.db.read(load_wanted, self.uuid)
        at = await call.services.db.read(load_place, self.uuid)
        if at is not None and await _runs_otherwise(call, self.uuid, at, enable=enable):
            change = "enabled" if enable else "disabled"
            call.headers[NOTICE] = f"restart needed: USB redirection is {change} from the VM's next start on"
        return {"enable": enable}


class SetVmUsbRedirect(Action, path="/vm-instances/{uuid}/actions"):
    """Have a VM take USB devices of who is at its screen from its next start on, or not (4.3.12.2)."""

    uuid: Ref
    enable: Enable

    def locks(self) -> tuple[str, ...]:
        """One change of a VM at a time."""
        return (f"vm/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the tag."""
        await job.transact(save_redirect, self.uuid, self.enable)
        return {}


def load_wanted(connection: Connection, uuid: str) -> bool:
    """Return what is wanted of a VM. Raises HardpointError (SYS.1003)."""
    find(connection, VM, uuid)
    return load_redirect(connection, uuid)


def load_place(connection: Connection, uuid: str) -> Placed | None:
    """Return where a VM runs, None when it does not or its host does not answer."""
    vm = find(connection, VM, uuid)
    host = load_host(connection, vm.host_uuid) if vm.state in (State.RUNNING, State.PAUSED) else None
    if host is None or host.status != "Connected" or host.agent_port is None:
        return None
    return Placed(host.uuid, host.agent_address, host.agent_port)


def save_redirect(connection: Connection, uuid: str, enable: bool) -> None:
    """Write what is wanted of a VM. Raises HardpointError (SYS.1003)."""
    find(connection, VM, uuid)
    set_tag(connection, VM, uuid, REDIRECT_TAG.replace("{enable}", "true" if enable else "false"))


async def _runs_otherwise(call: Call, uuid: str, at: Placed, *, enable: bool) -> bool:
    try:
        seen = await look_at(call.services, uuid, at.endpoint)
    except HardpointError:
        return False
    return seen is not None and seen.usb_redirect != enable
