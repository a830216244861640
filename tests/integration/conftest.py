from __future__ import annotations

from tests.sshd import ssh_account, sshd, start_sshd

__all__ = ["ssh_account", "sshd", "start_sshd"]
