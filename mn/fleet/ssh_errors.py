"""The reasons why a host cannot be reached or logged in to over SSH, each with what to do about it.

`where` is always `user@host:port` (`SshTarget.label`); no function takes a password.
"""

from __future__ import annotations

import errno
import socket

from agentkit.errors import Blame, HardpointError

UNREACHABLE_ERRNOS = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


def connection_error(details: str, remedy: str, blame: Blame = Blame.SYSTEM) -> HardpointError:
    """Return a HOST.1003: the host could not be reached or did not speak SSH as expected."""
    return HardpointError("HOST.1003", "Connection error", details, remedy=remedy, blame=blame)


def from_os_error(where: str, error: OSError) -> HardpointError:
    """Return what a failed name resolution or TCP connect means."""
    if isinstance(error, socket.gaierror):
        return connection_error(
            f"{where}: the host name does not resolve: {error.strerror}",
            "Correct the address (UpdateKVMHost, for a host that is in the fleet), or add the name to the "
            "DNS of the management node.",
            Blame.CALLER,
        )
    if isinstance(error, ConnectionRefusedError):
        return connection_error(
            f"{where}: the port is closed (connection refused)",
            "Start sshd there, or correct the SSH port (UpdateKVMHost, for a host that is in the fleet).",
        )
    if error.errno in UNREACHABLE_ERRNOS:
        return connection_error(
            f"{where}: the host is unreachable: {error.strerror}",
            "Check that the host is powered on and that the management node has a route to it.",
        )
    return connection_error(
        f"{where}: the connection failed: {error.strerror or error}",
        "Check the network between the management node and the host.",
    )


def no_tcp_answer(where: str, timeout_s: float) -> HardpointError:
    """Return the error for a TCP connect that nothing answers."""
    return connection_error(
        f"{where}: timed out: no answer to the TCP connection within {timeout_s:g} s",
        "Check that the host is powered on and that no firewall drops the SSH port.",
    )


def no_greeting(where: str, timeout_s: float) -> HardpointError:
    """Return the error for a port that accepts connections and then stays silent."""
    return connection_error(
        f"{where}: timed out: the port accepts connections but sent no SSH greeting within {timeout_s:g} s",
        "Check that sshd listens on this port and that the host is not hung or overloaded.",
    )


def login_timed_out(where: str, timeout_s: float) -> HardpointError:
    """Return the error for an SSH server that does not finish the login."""
    return connection_error(
        f"{where}: timed out: the SSH server did not finish the login within {timeout_s:g} s",
        "Check the load of the host and what its login waits for (DNS, LDAP, PAM modules).",
    )


def not_an_ssh_server(where: str) -> HardpointError:
    """Return the error for a peer that is gone or talks nonsense before an SSH greeting."""
    return connection_error(
        f"{where}: not an SSH server: the connection ended without an SSH-2.0 greeting",
        "Correct the SSH port (UpdateKVMHost, for a host that is in the fleet). If sshd does listen "
        "there, see its log: it closes connections this way when it is overloaded (MaxStartups) or denies "
        "the management node's address.",
    )


def host_key_changed(where: str, pinned: str, seen: str) -> HardpointError:
    """Return the error for a host whose key is not the pinned one; `pinned` and `seen` are fingerprints."""
    return connection_error(
        f"{where}: the host key changed: pinned {pinned}, the host presented {seen}; "
        "the connection was refused",
        "If the host was reinstalled, compare the presented fingerprint on the host's console "
        "(ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub) and have the pinned key forgotten: UpdateKVMHost with "
        "resetHostKey true. Otherwise something else answers at this address: do not connect.",
    )


def bad_pinned_key(where: str) -> HardpointError:
    """Return the error for a stored host key that cannot be read."""
    return connection_error(
        f"{where}: the pinned host key is not an OpenSSH public key line",
        "Have the pinned key forgotten (UpdateKVMHost with resetHostKey true), so that the host's key is "
        "taken anew.",
    )


def password_rejected(where: str) -> HardpointError:
    """Return the HOST.1012 for a wrong user or password."""
    return HardpointError(
        "HOST.1012",
        "password changed",
        f"{where}: the SSH server rejected the user name or password",
        remedy="Give the right user name and password, to UpdateKVMHost for a host that is in the fleet. If "
        "they are right, check that sshd allows a password login of this user (PermitRootLogin, AllowUsers, "
        "a locked or expired account).",
        blame=Blame.CALLER,
    )


def too_many_failures(where: str, reason: str) -> HardpointError:
    """Return the HOST.1012 for a server that ended the connection over failed logins."""
    return HardpointError(
        "HOST.1012",
        "password changed",
        f"{where}: the SSH server ended the connection over failed logins: {reason}",
        remedy="Give the right user name and password, to UpdateKVMHost for a host that is in the fleet, "
        "and check that the account is not locked (faillock, fail2ban, MaxAuthTries).",
        blame=Blame.CALLER,
    )


def password_login_off(where: str) -> HardpointError:
    """Return the error for a server that takes no passwords at all."""
    return connection_error(
        f"{where}: the SSH server accepts no password logins",
        "Set PasswordAuthentication or KbdInteractiveAuthentication to yes in the host's sshd_config.",
    )


def login_ended(where: str, reason: str) -> HardpointError:
    """Return the error for a connection that ends between greeting and login."""
    return connection_error(
        f"{where}: the SSH connection ended during the login: {reason}",
        "See the log of sshd on the host.",
    )


def connection_lost(where: str, reason: str) -> HardpointError:
    """Return the error for a connection that ends in the middle of a script."""
    return connection_error(
        f"{where}: the SSH connection was lost while the script ran: {reason}",
        "Check the host and its network. The script is stopped by the host itself, but how far "
        "it came is not known.",
    )


def session_refused(where: str, reason: str) -> HardpointError:
    """Return the error for a login that is allowed no command."""
    return connection_error(
        f"{where}: the SSH server refused to start a command: {reason}",
        "Check MaxSessions and ForceCommand in the host's sshd_config and the login shell of the user.",
    )


def script_not_started(where: str, return_code: int, said: str) -> HardpointError:
    """Return the error for a host on which the script could not be stored or started."""
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"{where}: the script was not started (exit code {return_code}): {said or 'the host gave no reason'}",
        remedy="Check the user's login shell, the space and permissions of /tmp, and that coreutils and "
        "util-linux are installed on the host.",
    )


def script_not_text(reason: str) -> HardpointError:
    """Return the error for a script that cannot be encoded."""
    return HardpointError(
        "SYS.1007",
        "Invalid argument",
        f"the script is not valid Unicode text: {reason}",
        remedy="Send the script as UTF-8 text.",
        blame=Blame.CALLER,
    )


def script_timed_out(where: str, time_s: float, *, confirmed: bool) -> HardpointError:
    """Return the SYS.1001 for a script over its time limit; `confirmed`: the host said that it is killed."""
    ending = "and was killed" if confirmed else "and the host did not confirm that it is killed"
    return HardpointError(
        "SYS.1001",
        "A message or a operation timeout",
        f"{where}: the script ran longer than its limit of {time_s:g} s {ending}",
        remedy="See in the partial output where it hung, then shorten the script or allow it more time.",
    )


def output_not_kept(where: str, stream: str, reason: str) -> HardpointError:
    """Return the error for a script that ended, but whose long output found no room here."""
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"{where}: the script ended and its {stream} could not be kept whole: {reason}",
        remedy="Make room in the state folder of the management node or raise the limit, and let the script "
        "print less or run it again.",
    )


def internal(where: str, error: Exception) -> HardpointError:
    """Return the SYS.1000 for a fault of the management node itself."""
    return HardpointError(
        "SYS.1000",
        "Internal error",
        f"{where}: running the script failed inside the management node: {type(error).__name__}",
        remedy="See the log of the management node and report the fault.",
    )
