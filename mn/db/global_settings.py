"""Settings in the database that change while the node runs, each with its unit, default and range."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, Connection, String, Table, insert, select, update

from agentkit.errors import Blame, HardpointError
from mn.db.engine import Database
from mn.db.schema import metadata, new_uuid, private, sequence_column

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


@dataclass(frozen=True)
class GlobalSetting:
    """One setting: a number from `least` to `most` of `unit`."""

    category: str
    name: str
    default: float
    least: float
    most: float
    unit: str
    meaning: str
    whole: bool = True

    @property
    def description(self) -> str:
        """The setting in words."""
        kind = "whole number" if self.whole else "number"
        return f"{self.meaning}; {kind} of {self.unit} from {self.least:g} to {self.most:g}"

    def parse(self, text: str) -> float:
        """Return the number of a text. Raises HardpointError (SYS.1007) when it is none or out of range."""
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not self.least <= value <= self.most or (self.whole and value != int(value)):
            raise HardpointError(
                "SYS.1007",
                "Invalid argument",
                f"'{text}' is no value of the setting {self.category} {self.name}",
                remedy=f"give a {self.description.partition('; ')[2]}",
                blame=Blame.CALLER,
            )
        return value

    def text(self, value: float) -> str:
        """Return a number as the API shows it."""
        return str(int(value)) if self.whole else f"{value:g}"


@dataclass(frozen=True)
class Switch(GlobalSetting):
    """A setting that is true (1) or false (0)."""

    @property
    def description(self) -> str:
        """The setting in words."""
        return f"{self.meaning}; true or false"

    def parse(self, text: str) -> float:
        """Return 1 or 0. Raises HardpointError (SYS.1007) for what is neither `true` nor `false`."""
        value = {"true": 1.0, "false": 0.0}.get(text.strip().lower())
        if value is None:
            raise HardpointError(
                "SYS.1007",
                "Invalid argument",
                f"'{text}' is no value of the setting {self.category} {self.name}",
                remedy="give true or false",
                blame=Blame.CALLER,
            )
        return value

    def text(self, value: float) -> str:
        """Return `true` or `false`."""
        return "true" if value else "false"


def switch(category: str, name: str, *, default: bool, meaning: str) -> Switch:
    """Return a setting that is true or false."""
    return Switch(category, name, float(default), 0, 1, "", meaning)


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
