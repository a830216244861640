"""An agent's configuration file: the keys that all agents have, and how the file is read."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from agentkit.errors import HardpointError
from agentkit.tls import ServerCredentials

CREDENTIALS = "${CREDENTIALS_DIRECTORY}"

S = TypeVar("S", bound="AgentSettings")


class AgentSettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Keys of the TOML file; paths are absolute or relative to the working directory."""

    port: int
    state_dir: str
    listen_address: str = "0.0.0.0"  # noqa: S104 every address of the host; the certificate decides
    certificate: str
    key: str
    """The key's file; `${CREDENTIALS_DIRECTORY}` is where systemd's LoadCredential= puts it."""
    ca: str
    installed_certificate: str | None = None
    """Where a renewed certificate is kept with its key; it wins when it is there. None: in `certificate`."""
    log_level: str = "INFO"

    def check(self) -> None:
        """Raise msgspec.ValidationError for values that cannot be."""
        if not 0 <= self.port <= 65535:
            raise msgspec.ValidationError(f"port is {self.port}, not 0 to 65535")
        if self.log_level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise msgspec.ValidationError(
                f"log_level is {self.log_level!r}, not DEBUG, INFO, WARNING or ERROR"
            )

    def credentials(self, *, client_certificates: bool = True) -> ServerCredentials:
        """Return the certificate that the agent shows; see `ServerCredentials`."""
        installed = Path(self.installed_certificate) if self.installed_certificate else None
        return ServerCredentials(
            Path(self.certificate),
            Path(self.key),
            Path(self.ca),
            installed,
            client_certificates=client_certificates,
        )


def load(path: Path, kind: type[S], listed_in: str) -> S:
    """Return the settings of a file. Raises HardpointError naming the file and what is wrong in it."""
    try:
        settings = msgspec.convert(tomllib.loads(path.read_text()), kind)
        settings.check()
        settings.key = _credential(settings.key)
    except OSError as error:
        raise _unusable(f"the configuration {path} cannot be read: {error.strerror}", listed_in) from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise _unusable(f"the configuration {path} is wrong: {error}", listed_in) from error
    return settings


def _credential(path: str) -> str:
    """Return a path with the folder of systemd's credentials filled in."""
    if CREDENTIALS not in path:
        return path
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise msgspec.ValidationError(f"key is {path}, but systemd gave no credentials (LoadCredential=)")
    return path.replace(CREDENTIALS, folder)


def _unusable(details: str, listed_in: str) -> HardpointError:
    remedy = f"correct the file; {listed_in} lists its keys"
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy)
