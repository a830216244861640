"""UpdateHost and UpdateKVMHost: they write the row; the next reconnect uses what is new in it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from mn.db.vault import Vault
from mn.facilities.common import change, find, inventory
from mn.facilities.hosts.addresses import claim, resolve_address
from mn.facilities.hosts.rules import check_address
from mn.facilities.hosts.tables import HOST, SEALED_FOR, Login, change_host
from mn.rest.operation import Action, Reply
from mn.rest.services import Job
from mn.rest.types import Description, HostAddress, Name, Port, Ref, Secret


class _Update(Action):
    """What both updates have."""

    uuid: Ref
    name: Name | None = None
    description: Description | None = None
    management_ip: HostAddress | None = None

    def check(self) -> None:
        """Refuse an address that no host can have."""
        if self.management_ip is not None:
            check_address(self.management_ip.text)

    def locks(self) -> tuple[str, ...]:
        """One change of a host and one addition of an address at a time."""
        address = (f"address/{self.management_ip.text}",) if self.management_ip is not None else ()
        return (f"host/{self.uuid}", *address)

    def login(self, vault: Vault) -> dict[str, Any]:
        """Return the columns of a login that change; the password sealed."""
        return {}

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        address = self.management_ip.text if self.management_ip is not None else None
        addresses = await job.step(resolve_address, address) if address is not None else []
        await job.transact(update_host, self, addresses, self.login(job.services.vault))
        return await inventory(job.services, HOST, self.uuid)


class UpdateHost(_Update, path="/hosts/{uuid}/actions", reply=HOST):
    """Change a host's name, description or address (manual 4.3.3); the address holds from the next
    reconnect on.
    """


class UpdateKVMHost(_Update, path="/hosts/kvm/{uuid}/actions", reply=HOST):
    """Change a KVM host (manual 4.3.8); address and login hold from the next reconnect on.

    `resetHostKey` (extension) forgets the SSH host key that is pinned, as another `managementIp` does: the
    next login takes the key that the host shows then.
    """

    username: Name | None = None
    password: Secret | None = None
    ssh_port: Port | None = None
    reset_host_key: bool = False

    def login(self, vault: Vault) -> dict[str, Any]:
        """Return the columns of the login that change."""
        given: dict[str, Any] = {"username": self.username, "ssh_port": self.ssh_port}
        if self.password is not None:
            given["password"] = vault.seal(self.password.text, SEALED_FOR)
        if self.reset_host_key:
            given["ssh_host_key"] = None
        return {name: value for name, value in given.items() if value is not None or name == "ssh_host_key"}


def update_host(connection: Connection, wanted: _Update, addresses: list[str], login: dict[str, Any]) -> None:
    """Write what is given.

    Raises HardpointError: SYS.1003 when there is no such host, SYS.1007 for an address in use.
    """
    row = find(connection, HOST, wanted.uuid)
    address = wanted.management_ip.text if wanted.management_ip is not None else row.management_ip
    values = dict(login)
    if address != row.management_ip:
        claim(connection, [address, *(a for a in addresses if a != address)], wanted.uuid)
        values |= {"management_ip": address, "ssh_host_key": None}
    if values:
        # Neither the outcome of a reconnect with the old login nor its refusal says anything of the new one.
        values |= {"login": Login.UNVERIFIED, "reconnect_through": None, "reconnect_attempts": 0}
        change_host(connection, wanted.uuid, **values)
    change(connection, HOST, wanted.uuid, {"name": wanted.name, "description": wanted.description})
