"""What a server must be to become an image store, as pure functions."""

from __future__ import annotations

from pathlib import PurePosixPath

from agentkit.errors import Blame, HardpointError

_NEVER = ("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr")


def check_folder(url: str) -> None:
    """Raise HardpointError (SYS.1007) for what is no folder of a store."""
    path = PurePosixPath(url)
    wrong = not path.is_absolute() or ".." in path.parts or str(path) != url
    system = url == "/" or any(path == PurePosixPath(d) or path.is_relative_to(d) for d in _NEVER[1:])
    if wrong or system:
        reason = "is a folder of the system" if system and not wrong else "is no plain absolute path"
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"parameter 'url' is '{url}', which {reason}",
            remedy="give the absolute path of a folder on the server, such as /srv/images",
            blame=Blame.CALLER,
        )
