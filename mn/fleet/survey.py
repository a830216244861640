"""What is looked at on a host, by SSH, before anything is installed on it."""

from __future__ import annotations

import msgspec


class HostSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """A host as a login sees it.

    `host_key` is the OpenSSH line it showed; `clock_offset_s` is its clock minus ours (half the round trip
    taken off); `python` is `(major, minor)` of the interpreter that an agent would run with, None when there
    is none; `virtualisation` is `vmx`, `svm` or None; `owner_fleet_uuid` and `owner_host_uuid` are those of
    the fleet whose agent is installed, None when no agent is.
    """

    host_key: str
    architecture: str
    kernel: str
    distribution: str
    distribution_version: str
    distribution_name: str
    machine_id: str | None
    python: tuple[int, int] | None
    libc: str | None
    virtualisation: str | None
    kvm: bool
    root: bool
    clock_offset_s: float
    agent_version: str | None = None
    owner_host_uuid: str | None = None
    owner_fleet_uuid: str | None = None
