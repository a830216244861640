"""How many of the places where the node may be killed are tried: all that HARDPOINT_CRASH_SEEDS allows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from tests.integration.crash.scene import SCENES

SEEDS = int(os.environ.get("HARDPOINT_CRASH_SEEDS", str(SCENES)))
SEEDS_A_PLACE = 40

T = TypeVar("T")


def sample(places: Sequence[T]) -> list[T]:
    """Return places evenly spread over all: one for every 40 seeds, one at least."""
    wanted = min(len(places), max(1, SEEDS // SEEDS_A_PLACE))
    return [places[index * len(places) // wanted] for index in range(wanted)]
