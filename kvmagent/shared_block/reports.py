"""What LVM, sanlock and lvmlockd say, as data; pure functions.

LVM speaks JSON. sanlock prints a line for each thing, a letter first, and with `-D` its properties below it
as `    name=value`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from kvmagent.storage.children import refused


@dataclass(frozen=True)
class Group:
    """A volume group."""

    name: str
    size: int
    free: int
    lock_type: str
    tags: list[str]


@dataclass(frozen=True)
class PhysicalVolume:
    """A disk of a volume group; `group` is empty when it is in none."""

    device: str
    group: str
    size: int
    free: int
    device_size: int = 0


@dataclass(frozen=True)
class Lockspace:
    """A lockspace as sanlock has it here; times are seconds of the monotonic clock."""

    name: str
    host_id: int
    adding: bool = False
    removing: bool = False
    io_timeout_s: int = 10
    dead: bool = False
    killing: bool = False
    renewed_at: int = 0


@dataclass(frozen=True)
class Peer:
    """Another host of a lockspace as sanlock sees it from here."""

    host_id: int
    last_live: int = 0
    io_timeout_s: int = 10
    owner: str = ""
    generation: int = 0


@dataclass(frozen=True)
class Status:
    """What `sanlock client status -D` says."""

    now: int | None = None
    lockspaces: dict[str, Lockspace] = field(default_factory=dict)


def lvm_rows(text: bytes, kind: str) -> list[dict[str, str]]:
    """Return the rows of a report, `kind`: vg, lv, pv. Raises HardpointError (SYS.1006) for what is none."""
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
        rows = [row for report in found["report"] for row in report.get(kind, [])]
        return [{str(key): str(value) for key, value in row.items()} for row in rows]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise refused(f"LVM reports in a way that is not known: {error}", "report it") from error


def groups(text: bytes) -> list[Group]:
    """Return volume groups."""
    return [
        Group(
            row["vg_name"],
            number(row.get("vg_size", "0")),
            number(row.get("vg_free", "0")),
            row.get("vg_lock_type", ""),
            split_tags(row.get("vg_tags", "")),
        )
        for row in lvm_rows(text, "vg")
    ]


def physical_volumes(text: bytes) -> list[PhysicalVolume]:
    """Return physical volumes."""
    return [
        PhysicalVolume(
            row["pv_name"],
            row.get("vg_name", ""),
            number(row.get("pv_size", "0")),
            number(row.get("pv_free", "0")),
            number(row.get("dev_size", "0")),
        )
        for row in lvm_rows(text, "pv")
    ]


def number(text: str) -> int:
    """Return the bytes of a number with or without its unit."""
    return int(float(text.strip().rstrip("Bb") or "0"))


def split_tags(text: str) -> list[str]:
    """Return tags as a report has them."""
    return [tag for tag in text.split(",") if tag]


def lockspace_of(group: str) -> str:
    """Return what lvmlockd calls a group's lockspace."""
    return f"lvm_{group}"


def sanlock_status(text: str, now: int | None = None) -> Status:
    """Return the lockspaces that sanlock has."""
    found: dict[str, Lockspace] = {}
    for line, properties in _blocks(text):
        words = line.split()
        if len(words) < 2 or words[0] != "s":
            continue
        parts = words[1].split(":")
        if len(parts) < 3 or not parts[1].isdigit():
            continue
        space = _lockspace(parts[0], int(parts[1]), words[2:], properties)
        found[space.name] = space
    return Status(now, found)


def _lockspace(name: str, host_id: int, flags: list[str], properties: dict[str, str]) -> Lockspace:
    kept = properties.get("list", "")
    return Lockspace(
        name,
        host_id,
        adding="ADD" in flags or kept == "add",
        removing="REM" in flags or kept == "rem",
        io_timeout_s=_whole(properties, "io_timeout", 10),
        dead=_whole(properties, "space_dead", 0) != 0,
        killing=_whole(properties, "killing_pids", 0) != 0,
        renewed_at=_whole(properties, "renewal_last_success", 0)
        or _whole(properties, "acquire_last_success", 0),
    )


def peers(text: str) -> dict[int, Peer]:
    """Return the hosts of a lockspace that have ever been seen in it (`sanlock client host_status -D`)."""
    found = {}
    for line, properties in _blocks(text):
        words = line.split()
        if len(words) < 3 or not words[0].isdigit() or words[1] != "timestamp":
            continue
        host_id = int(words[0])
        found[host_id] = Peer(
            host_id,
            _whole(properties, "last_live", 0),
            _whole(properties, "io_timeout", 10),
            properties.get("owner_name", ""),
            _whole(properties, "owner_generation", 0),
        )
    return found


def leader_owner(text: str) -> tuple[int, int] | None:
    """Return who has a lease as its record on disk says: host id and generation; None: nobody has."""
    words = dict(line.split(None, 1) for line in text.splitlines() if len(line.split(None, 1)) == 2)
    owner, generation = words.get("owner_id", "0").strip(), words.get("owner_generation", "0").strip()
    if words.get("timestamp", "0").strip() == "0" or not owner.isdigit() or owner == "0":
        return None
    return int(owner), int(generation) if generation.isdigit() else 0


def _blocks(text: str) -> list[tuple[str, dict[str, str]]]:
    blocks: list[tuple[str, dict[str, str]]] = []
    for line in text.splitlines():
        if line[:1].isspace():
            key, separator, value = line.strip().partition("=")
            if blocks and separator:
                blocks[-1][1][key] = value
        elif line.strip():
            blocks.append((line.strip(), {}))
    return blocks


def _whole(properties: dict[str, str], key: str, otherwise: int) -> int:
    text = properties.get(key, "")
    return int(text) if text.isdigit() else otherwise
