"""The agent's configuration file."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import msgspec

from agentkit.errors import HardpointError
from kvmagent.protocol import AGENT_PORT

CREDENTIALS = "${CREDENTIALS_DIRECTORY}"


class Settings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Keys of the TOML file; paths are absolute or relative to the working directory."""

    listen_address: str = "0.0.0.0"  # noqa: S104 every address of the host; the certificate decides
    port: int = AGENT_PORT
    state_dir: str = "/var/lib/hardpoint/kvmagent"
    certificate: str
    key: str
    """The key's file; `${CREDENTIALS_DIRECTORY}` is where systemd's LoadCredential= puts it."""
    ca: str
    installed_certificate: str | None = None
    """Where a renewed certificate is kept with its key; it wins when it is there. None: in `certificate`."""
    root: str = "/"
    """Where the machine's file tree begins; a recorded machine's in tests and simulated hosts."""
    management_address: str | None = None
    """The address that the management node calls; what carries it is boot-critical."""
    rescan_s: float = 30.0
    log_level: str = "INFO"


def load(path: Path) -> Settings:
    """Return the settings of a file. Raises HardpointError naming the file and what is wrong in it."""
    try:
        settings = msgspec.convert(tomllib.loads(path.read_text()), Settings)
        _check(settings)
        settings.key = _credential(settings.key)
    except OSError as error:
        raise _unusable(f"the configuration {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise _unusable(f"the configuration {path} is wrong: {error}") from error
    return settings


def _check(settings: Settings) -> None:
    if not 0 <= settings.port <= 65535:
        raise msgspec.ValidationError(f"port is {settings.port}, not 0 to 65535")
    if not settings.rescan_s >= 1:
        raise msgspec.ValidationError(f"rescan_s is {settings.rescan_s}, not 1 or more")
    if settings.log_level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise msgspec.ValidationError(
            f"log_level is {settings.log_level!r}, not DEBUG, INFO, WARNING or ERROR"
        )


def _credential(path: str) -> str:
    """Return a path with the folder of systemd's credentials filled in."""
    if CREDENTIALS not in path:
        return path
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise msgspec.ValidationError(f"key is {path}, but systemd gave no credentials (LoadCredential=)")
    return path.replace(CREDENTIALS, folder)


def _unusable(details: str) -> HardpointError:
    remedy = "correct the file; kvmagent/settings.py lists its keys"
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy)
