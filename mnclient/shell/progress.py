"""The bar of a job that is waited for, on standard error when that is a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mnclient.protocol import Progress
from mnclient.shell.output import without_controls

if TYPE_CHECKING:
    from rich import progress as rich_progress

QUIET_S = 0.3
"""A job that ends sooner shows no bar."""


class Bar:
    """A context in which `show` draws the progress; it vanishes at the end."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._bar: rich_progress.Progress | None = None
        self._task: rich_progress.TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Draw how far the job is."""
        if not sys.stderr.isatty() or time.monotonic() - self._begun < QUIET_S:
            return
        if self._bar is None:
            self._start()
        assert self._bar is not None  # noqa: S101 - just started
        assert self._task is not None  # noqa: S101 - just started
        self._bar.update(self._task, completed=progress.percent, step=without_controls(progress.step))

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[step]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=100, step="")
        self._bar.start()
