"""Removing RBD images with their snapshots, which clones and clients that were killed can hinder."""

from __future__ import annotations

import asyncio
import errno
import time

from agentkit.rbd import SLOW_LIMIT_S, Rbd, Snapshot

WATCHED_S, WATCHED_PAUSE_S = 60.0, 2.0
"""So long a client that was killed keeps an image from being removed, at most."""


async def remove_image(rbd: Rbd, pool: str, name: str) -> bool:
    """Remove an image with its snapshots, gone already or not; False: something is a clone of it.

    One whose maker was killed as it began has a name and nothing else yet, so that it is not found but in the
    way of another one of that name.
    """
    image = await rbd.image(pool, name)
    for snapshot in await rbd.snapshots(pool, image.id) if image is not None else ():
        if not await remove_snapshot(rbd, f"{pool}/{name}@{snapshot.name}", snapshot):
            return False
    until = time.monotonic() + WATCHED_S
    while True:
        done = await rbd.try_rbd("rm", f"{pool}/{name}", "--no-progress", limit_s=SLOW_LIMIT_S)
        if done.returncode in (0, errno.ENOENT):
            return True
        if done.returncode != errno.EBUSY or time.monotonic() > until:
            done.check()
        await asyncio.sleep(WATCHED_PAUSE_S)


async def remove_snapshot(rbd: Rbd, spec: str, known: Snapshot | None = None) -> bool:
    """Remove a snapshot, gone already or not; False: something is a clone of it."""
    if known is None or known.is_protected:
        done = await rbd.try_rbd("snap", "unprotect", spec)
        if done.returncode == errno.EBUSY:
            return False
        if done.returncode not in (errno.ENOENT, errno.EINVAL):  # gone, or not protected
            done.check()
    done = await rbd.try_rbd("snap", "rm", spec, "--no-progress")
    if done.returncode != errno.ENOENT:
        done.check()
    return True
