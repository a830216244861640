"""Which evidence of a device's identity is worth keeping; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kvmagent.protocol import Evidence


def keep_telling(identities: Iterable[list[Evidence]]) -> None:
    """Remove, in place, evidence that two devices share: makers do give a whole batch one serial number."""
    lists = list(identities)
    seen = Counter((item.kind, item.value) for identity in lists for item in identity)
    for identity in lists:
        identity[:] = [item for item in identity if seen[item.kind, item.value] == 1]
