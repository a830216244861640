"""Settings in the database that change while the node runs, each with its unit, default and range."""

from __future__ import annotations

from sqlalchemy import Column, Connection, String, Table, insert, select, update

from agentkit.errors import Blame, HardpointError
from mn.db.engine import Database
from mn.db.schema import metadata, new_uuid, private, sequence_column
from mn.db.setting_types import Choice, GlobalSetting, switch

config_table = Table(
    "global_config",
    metadata,
    sequence_column(),
    private("uuid", String(32), nullable=False, unique=True),
    Column("category", String(64), nullable=False, index=True, comment="the part of Hardpoint it belongs to"),
    Column("name", String(255), nullable=False, index=True, comment="its name within the category"),
    Column("description", String(1024), nullable=False, comment="what it sets, with unit and range"),
    Column("default_value", String(255), nullable=False, comment="its value when nobody has changed it"),
    Column("value", String(255), nullable=False, comment="its value"),
)


SESSION_TIMEOUT = GlobalSetting(
    "identity", "session.timeout", 7200, 60, 31_536_000, "seconds", "how long a session lives without a call"
)
SESSIONS_PER_ACCOUNT = GlobalSetting(
    "identity", "session.maxConcurrent", 500, 1, 100_000, "sessions", "live sessions that an account may have"
)
JOB_KEPT = GlobalSetting(
    "rest", "completedApi.expiredPeriod", 172_800, 3600, 31_536_000, "seconds", "how long ended jobs are kept"
)
CPU_RATIO = GlobalSetting(
    "host",
    "cpu.overProvisioning.ratio",
    10,
    1,
    1000,
    "virtual CPUs",
    "virtual CPUs that each CPU of a host may carry; hosts take it up at their next inventory",
    whole=False,
)
CLUSTER_OS_UPDATES = GlobalSetting(
    "cluster",
    "update.os.parallelismDegree",
    10,
    1,
    10_000,
    "hosts",
    "hosts of one cluster whose operating system is updated at once; the next batch begins when all are done",
)
OS_UPDATES = GlobalSetting(
    "host",
    "update.os.parallelismDegree",
    10,
    1,
    10_000,
    "hosts",
    "hosts of all clusters together whose operating system is updated at once",
)
AUTO_RECONNECT = switch(
    "host",
    "connection.autoReconnectOnError",
    default=True,
    meaning="whether a lost host whose SSH server answers is reconnected by itself",
)
AUTO_RECONNECT_MOST = GlobalSetting(
    "host",
    "connection.autoReconnectOnError.maxAttemptsNum",
    0,
    0,
    1_000_000,
    "attempts",
    "how often a lost host is reconnected by itself before it is left alone; 0: without end",
)
RECONNECTS_AT_ONCE = GlobalSetting(
    "host",
    "load.parallelismDegree",
    10,
    1,
    1000,
    "hosts",
    "hosts that are looked at or reconnected by themselves at the same time",
)
CLOCK_OFFSET = GlobalSetting(
    "host",
    "clock.maxOffset",
    30,
    1,
    3600,
    "seconds",
    "how far the clock of a host may be from the management node's when the host is added or reconnected",
)
SSH_PATIENCE = GlobalSetting(
    "kvm",
    "testSshPortOpenTimeout",
    30,
    0,
    3600,
    "seconds",
    "how long a host that is added or reconnected may take to open its SSH port",
)
SSH_PROBE = GlobalSetting(
    "kvm",
    "testSshPortOnConnectTimeout",
    2,
    1,
    60,
    "seconds",
    "how long one look at the SSH port of a host may take",
)
SAME_CPU_MODEL = switch(
    "kvm",
    "checkHostCpuModelName",
    default=False,
    meaning="whether a new host must have the CPU model of the other hosts of its cluster",
)
SAME_DISTRIBUTION = switch(
    "kvm",
    "checkHostDistribution",
    default=True,
    meaning="whether a new host must have the distribution and version of the other hosts of its cluster",
)
IMAGE_DELETION = Choice(
    "image",
    "deletionPolicy",
    0,
    0,
    1,
    "",
    "what DeleteImage does: with Delay images can be recovered until they are expunged, with Direct not",
    words=("Delay", "Direct"),
)
IMAGE_EXPUNGE_PERIOD = GlobalSetting(
    "image",
    "expungePeriod",
    259_200,
    1,
    31_536_000,
    "seconds",
    "how long a deleted image can be recovered before it is expunged",
)
STORE_RESERVE = GlobalSetting(
    "backupStorage",
    "reservedCapacity",
    1024**3,
    0,
    2**60,
    "bytes",
    "how much of a backup storage stays free: no image is added to one with less",
)
EXPORT_LIFETIME = GlobalSetting(
    "backupStorage",
    "export.lifetime",
    604_800,
    60,
    31_536_000,
    "seconds",
    "how long the URL of an exported image works; exporting it again renews it",
)
MEMORY_RATIO = GlobalSetting(
    "mevoco",
    "overProvisioning.memory",
    1,
    0.1,
    100,
    "bytes",
    "bytes of VMs' memory that each byte of a host may carry",
    whole=False,
)
RESERVED_MEMORY = GlobalSetting(
    "kvm",
    "reservedMemory",
    2**30,
    0,
    2**50,
    "bytes",
    "bytes of each host's memory that are kept from VMs, unless a tag says otherwise",
)
MAINTENANCE_POLICY = Choice(
    "host",
    "maintenance.policy",
    0,
    0,
    1,
    "",
    "what becomes of a VM that cannot be moved off a host that is to be maintained: it is stopped, or the "
    "host is not maintained",
    words=("StopVmOnMigrationFailure", "JustMigrate"),
)
VM_PATIENCE = GlobalSetting(
    "vm",
    "stop.patience",
    60,
    0,
    3600,
    "seconds",
    "how long a VM that is stopped may take to obey its power button before its power is taken",
)
STORAGE_RATIO = GlobalSetting(
    "primaryStorage",
    "overProvisioning.ratio",
    1,
    0.01,
    1000,
    "bytes",
    "bytes of volumes that each byte of a primary storage may carry; new volumes are counted by it",
    whole=False,
)
STORAGE_RESERVED = GlobalSetting(
    "primaryStorage",
    "reservedCapacity",
    1024**3,
    0,
    2**62,
    "bytes",
    "bytes of each primary storage, of each host of a local one, that are kept free",
)
STORAGE_FULL = GlobalSetting(
    "primaryStorage",
    "threshold.physicalCapacity",
    0.9,
    0.01,
    1,
    "the whole",
    "part of the physical capacity that may be in use when something new is made",
    whole=False,
)
STORAGE_TRASH = GlobalSetting(
    "primaryStorage",
    "trash.expiration.time",
    604_800,
    0,
    31_536_000,
    "seconds",
    "how long files of migrated volumes are kept where they were",
)
VOLUME_EXPUNGE = GlobalSetting(
    "volume",
    "expungePeriod",
    259_200,
    0,
    31_536_000,
    "seconds",
    "how long a deleted volume can be recovered",
)
WITHOUT_RESET = switch(
    "pciDevice",
    "attach.withoutReset",
    default=False,
    meaning="whether VMs get PCI devices that cannot be reset, in which the next VM finds what one has left",
)
WHOLE_GROUP = switch(
    "pciDevice",
    "attach.wholeGroup",
    default=False,
    meaning="whether a VM that gets a PCI device gets all of its IOMMU group without being asked",
)
SANLOCK_TIMEOUT = GlobalSetting(
    "sharedBlock",
    "sanlock.ioTimeout",
    10,
    2,
    120,
    "seconds",
    "sanlock's I/O timeout: a lease is lost after 8 of them, and another host may have it 60 s later; hosts "
    "take it when they next join their first group",
)
SANLOCK_WATCHDOG = switch(
    "sharedBlock",
    "sanlock.watchdog",
    default=True,
    meaning="whether a watchdog resets a host that has lost its lease and cannot stop writing",
)
LEASE_LOST_FENCES = switch(
    "sharedBlock",
    "leaseLost.fenceVms",
    default=True,
    meaning="whether a host that has lost its lease on a storage takes the power of the VMs that have disks "
    "there, and of no others; else the watchdog resets the host",
)
THIN_VOLUMES = switch(
    "sharedBlock",
    "volume.thin",
    default=False,
    meaning="whether volumes get room as they are written to, unless a tag of their storage says otherwise",
)
THIN_STEP = GlobalSetting(
    "sharedBlock",
    "volume.thinStep",
    1024**3,
    64 * 1024**2,
    1024**4,
    "bytes",
    "how much room a thin volume has at first, and gets when half of it is left",
)
CEPH_DELETE_POOL = switch(
    "ceph",
    "primaryStorage.deletePool",
    default=False,
    meaning="whether pools that were made for a Ceph primary storage are deleted with it",
)
CEPH_IMAGE_KEPT = GlobalSetting(
    "ceph",
    "image.expiration.time",
    604_800,
    0,
    31_536_000,
    "seconds",
    "how long expunged images of a Ceph backup storage are kept in its pool's trash",
)
ALL = (
    SESSION_TIMEOUT,
    SESSIONS_PER_ACCOUNT,
    JOB_KEPT,
    CPU_RATIO,
    AUTO_RECONNECT,
    AUTO_RECONNECT_MOST,
    RECONNECTS_AT_ONCE,
    CLOCK_OFFSET,
    SSH_PATIENCE,
    SSH_PROBE,
    SAME_CPU_MODEL,
    SAME_DISTRIBUTION,
    CLUSTER_OS_UPDATES,
    OS_UPDATES,
    IMAGE_DELETION,
    IMAGE_EXPUNGE_PERIOD,
    STORE_RESERVE,
    EXPORT_LIFETIME,
    MEMORY_RATIO,
    RESERVED_MEMORY,
    MAINTENANCE_POLICY,
    VM_PATIENCE,
    STORAGE_RATIO,
    STORAGE_RESERVED,
    STORAGE_FULL,
    STORAGE_TRASH,
    VOLUME_EXPUNGE,
    WITHOUT_RESET,
    WHOLE_GROUP,
    SANLOCK_TIMEOUT,
    SANLOCK_WATCHDOG,
    LEASE_LOST_FENCES,
    THIN_VOLUMES,
    THIN_STEP,
    CEPH_DELETE_POOL,
    CEPH_IMAGE_KEPT,
)


class GlobalSettings:
    """The present values, kept in memory and read from the database at the start and after a change."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._values: dict[GlobalSetting, float] = {setting: setting.default for setting in ALL}

    async def load(self) -> None:
        """Read all values; settings that the database does not know yet get their default."""
        self._values = await self._db.write(ensure_settings)

    def __getitem__(self, setting: GlobalSetting) -> float:
        return self._values[setting]


def ensure_settings(connection: Connection) -> dict[GlobalSetting, float]:
    """Write missing settings, bring descriptions up to date, and return all values."""
    rows = {(r.category, r.name): r for r in connection.execute(select(config_table))}
    values: dict[GlobalSetting, float] = {}
    for setting in ALL:
        default = setting.text(setting.default)
        told = {"description": setting.description, "default_value": default}
        row = rows.get((setting.category, setting.name))
        if row is None:
            key = {"uuid": new_uuid(), "category": setting.category, "name": setting.name}
            connection.execute(insert(config_table), {**key, **told, "value": default})
        elif (row.description, row.default_value) != tuple(told.values()):
            connection.execute(update(config_table).where(config_table.c.uuid == row.uuid).values(**told))
        values[setting] = setting.parse(row.value) if row is not None else setting.default
    return values


def setting_in(connection: Connection, setting: GlobalSetting) -> float:
    """Return a setting's value as the database has it."""
    key = (config_table.c.category == setting.category) & (config_table.c.name == setting.name)
    value = connection.execute(select(config_table.c.value).where(key)).scalar()
    return setting.default if value is None else setting.parse(value)


def find_setting(category: str, name: str) -> GlobalSetting:
    """Return a setting. Raises HardpointError (SYS.1003) when there is none of that name."""
    for setting in ALL:
        if (setting.category, setting.name) == (category, name):
            return setting
    raise HardpointError(
        "SYS.1003",
        "Resource not found",
        f"there is no setting {category} {name}",
        remedy=f"settings: {', '.join(f'{s.category} {s.name}' for s in ALL)}",
        blame=Blame.CALLER,
    )


def change_setting(connection: Connection, setting: GlobalSetting, value: float) -> None:
    """Write a setting's value."""
    key = (config_table.c.category == setting.category) & (config_table.c.name == setting.name)
    connection.execute(update(config_table).where(key).values(value=setting.text(value)))
