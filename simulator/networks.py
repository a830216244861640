"""The bridges of a simulated host, which there are none of: any can be had."""

from __future__ import annotations

from collections.abc import Sequence

from kvmagent.protocol_network import Bridge


class SimulatedNetworks:
    """Takes every wish as granted."""

    async def apply(self, change_uuid: str, bridges: Sequence[Bridge]) -> bool:
        """Have these bridges; nothing is to be confirmed."""
        return False

    async def confirm(self, change_uuid: str) -> None:
        """Keep a change."""
