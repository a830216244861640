"""The monitors of Ceph primary storages (manual 4.4.18.2 to 4.4.18.5)."""

from __future__ import annotations

from mn.facilities.ceph.changing import TIMEOUT_S, AddMons, RemoveMons, UpdateMon
from mn.facilities.primary_storage.ceph_tables import CEPH_STORAGE, KIND
from mn.rest.operation import Query

MONS = "/primary-storage/ceph/{uuid}/mons"


class QueryCephPrimaryStorage(
    Query, path=("/primary-storage/ceph", "/primary-storage/ceph/{uuid}"), reply=CEPH_STORAGE
):
    """Query Ceph primary storages (manual 4.4.18.2)."""


class AddMonToCephPrimaryStorage(AddMons, path=MONS, reply=CEPH_STORAGE, timeout_s=TIMEOUT_S):
    """Add monitors to a Ceph primary storage (manual 4.4.18.3): all of them, or none."""

    storage = KIND


class RemoveMonFromCephPrimaryStorage(RemoveMons, path=MONS, reply=CEPH_STORAGE, timeout_s=TIMEOUT_S):
    """Remove monitors from a Ceph primary storage by their hosts (manual 4.4.18.4); the last one stays."""

    storage = KIND


class UpdateCephPrimaryStorageMon(
    UpdateMon, path="/primary-storage/ceph/mons/{monUuid}/actions", reply=CEPH_STORAGE, timeout_s=TIMEOUT_S
):
    """Change how a monitor is reached (manual 4.4.18.5); it holds from the next reconnect on."""

    storage = KIND
