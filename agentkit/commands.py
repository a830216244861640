"""The commands that every agent knows, whatever it is for; their handlers are in `agentkit.standing`."""

from __future__ import annotations

from agentkit.wire import Command, Wire


class ReleaseReply(Wire):
    """The host belongs to nobody."""


class Release(Command[ReleaseReply], tag="release"):
    """Give the host back; done also when it belonged to nobody.

    Refused when another host uuid or fleet owns it.
    """

    host_uuid: str
    fleet_uuid: str


class InstallCertificateReply(Wire):
    """The next connection will see the new certificate."""


class InstallCertificate(Command[InstallCertificateReply], tag="installCertificate"):
    """Use another certificate and key (PEM). Refused, and nothing changed, when they do not fit together."""

    certificate: str
    key: str
