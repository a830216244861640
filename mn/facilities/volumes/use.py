"""Whether a volume may be worked on: what state it is in, and whether a VM is using it.

VMs belong to another facility, which says which of them run (`vms_run_by`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, select

from agentkit.errors import Blame, HardpointError
from mn.facilities.common import find
from mn.facilities.primary_storage.refusals import refused
from mn.facilities.volumes.tables import VOLUME, volume_table

DETACHING = "Detaching"
"""Status of a volume that its VM is to let go of: nothing is done with it, and no start brings it back."""

Runs = Callable[[Connection, str], bool]
"""Says whether the VM with a uuid has its disks open."""

_runs: list[Runs] = []


def vms_run_by(runs: Runs) -> None:
    """Let volumes that are attached to a VM be worked on while `runs` says that it has them not open."""
    _runs.append(runs)


def volume_in(connection: Connection, uuid: str, *statuses: str) -> Row[Any]:
    """Return a volume's row. Raises HardpointError: SYS.1003 for none, VOLUME.1000 for another status."""
    row = find(connection, VOLUME, uuid)
    if row.status not in statuses:
        raise HardpointError(
            "VOLUME.1000",
            "Volume in the wrong state",
            f"volume {row.name} ({uuid}) is {row.status}, not {' or '.join(statuses)}",
            remedy="see its status; what is under way has to end first, a deleted volume can be recovered",
            blame=Blame.CALLER,
        )
    return row


def quiet_volume(connection: Connection, uuid: str) -> Row[Any]:
    """Return the row of a volume that is Ready and that no running VM has.

    Raises HardpointError (SYS.1003, VOLUME.1000, SYS.1006).
    """
    row = volume_in(connection, uuid, "Ready")
    vm = row.vm_instance_uuid
    if vm is not None and (not _runs or any(runs(connection, vm) for runs in _runs)):
        raise refused(
            f"volume {row.name} ({uuid}) is in use by VM {vm}", "stop the VM, or detach the volume from it"
        )
    return row


def check_disks(connection: Connection, vm_uuid: str) -> None:
    """Raise HardpointError (VOLUME.1000) when one of a VM's volumes is worked on: it may not start.

    It starts without one that it is to let go of.
    """
    mine = (volume_table.c.vm_instance_uuid == vm_uuid) & volume_table.c.path.is_not(None)
    for uuid in connection.execute(select(volume_table.c.uuid).where(mine)).scalars().all():
        volume_in(connection, uuid, "Ready", DETACHING)


def detached_volume(connection: Connection, uuid: str, *statuses: str) -> Row[Any]:
    """Return the row of a data volume that no VM has. Raises HardpointError as `quiet_volume` does."""
    row = volume_in(connection, uuid, *statuses)
    if row.type == "Root":
        raise refused(
            f"volume {row.name} ({uuid}) is the root volume of VM {row.vm_instance_uuid}", "work on the VM"
        )
    if row.vm_instance_uuid is not None:
        raise refused(
            f"volume {row.name} ({uuid}) is attached to VM {row.vm_instance_uuid}", "detach it first"
        )
    return row
