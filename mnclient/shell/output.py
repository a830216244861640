"""Replies for people and for programs: tables, JSON, YAML; errors in words."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from mnclient.errors import (
    NO_SESSION,
    WRONG_PASSWORD,
    ErrorCode,
    HardpointClientError,
    JobTimeoutError,
    NoAnswerError,
    NotLoggedInError,
    OperationError,
    RequestError,
)

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("table", "json", "yaml")
PLAIN_WIDTH = 200
"""Columns of a table that goes to no terminal."""
CELL_WIDTH = 48
"""The most columns that a cell takes before it is folded."""

EXIT_OK, EXIT_FAILED, EXIT_REFUSED, EXIT_NO_SESSION, EXIT_NO_ANSWER, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130
EXIT_CODES = (
    "Exit codes: 0 done; 1 the node refused the operation or it failed; 2 usage, or refused before anything "
    "was sent; 3 not logged in, a wrong password or the session has ended; 4 the node does not answer; "
    "130 interrupted (a job goes on)."
)

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def render(body: Any, form: str, columns: Sequence[str] = (), width: int | None = None) -> str:
    """Return a reply as text; `columns` are those that were asked for, in their order."""
    if form == "json":
        text = json.dumps(body, indent=2, ensure_ascii=False)
        return re.sub(r"[\x7f-\x9f]", lambda m: f"\\u{ord(m[0]):04x}", text)
    if form == "yaml":
        import yaml  # late: most calls do without it

        return str(yaml.safe_dump(body, sort_keys=False, allow_unicode=True)).rstrip("\n")
    return _tables(body, columns, width)


def _tables(body: Any, columns: Sequence[str], width: int | None) -> str:
    if not isinstance(body, dict) or not body:
        return "done" if body in ({}, None) else _cell(body)
    parts = []
    rows = body.get("inventories")
    if isinstance(rows, list):
        parts.append(_rows(rows, columns, width))
    elif isinstance(body.get("inventory"), dict):
        parts.append(_pairs(body["inventory"], width))
    rest = {k: v for k, v in body.items() if k not in ("inventories", "inventory")}
    if set(rest) == {"total"}:
        parts.append(f"total: {rest['total']}")
    elif rest:
        parts.append(_pairs(rest, width))
    return "\n".join(parts)


def _rows(rows: list[Any], wanted: Sequence[str], width: int | None) -> str:
    if not rows:
        return "nothing found"
    names: list[str] = list(dict.fromkeys(name for row in rows for name in row))
    chosen = [name for name in wanted if name in names] or _by_importance(names)
    cells = [[_cell(row.get(name)) for name in chosen] for row in rows]
    shown = _fitting(chosen, cells, width or terminal_width())
    table = _table([chosen[i] for i in shown])
    for row in cells:
        table.add_row(*(row[i] for i in shown))
    text = _drawn(table, width)
    left_out = [name for i, name in enumerate(chosen) if i not in shown]
    if left_out:
        note = f"not shown: {', '.join(left_out)} (fields=..., --output json)"
        text += "\n" + textwrap.fill(note, width or terminal_width(), break_on_hyphens=False)
    return text


def _by_importance(names: Sequence[str]) -> list[str]:
    """Names and states first, what belongs to others and dates last."""
    first = ("name", "uuid", "state", "status")
    dates = ("createDate", "lastOpDate")
    known = set(names)
    rest = [name for name in names if name not in (*first, *dates)]
    own, others = (
        [n for n in rest if not n.endswith("Uuid")],
        [n for n in rest if n.endswith("Uuid")],
    )
    return [*(n for n in first if n in known), *own, *others, *(n for n in dates if n in known)]


def _fitting(names: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the columns that fit side by side, the first always."""
    shown: list[int] = []
    used = 1
    for i, name in enumerate(names):
        widest = max(len(name), *(min(len(row[i]), CELL_WIDTH) for row in cells))
        if not shown or used + widest + 3 <= width:
            shown.append(i)
            used += widest + 3
    return shown


def _pairs(body: dict[str, Any], width: int | None) -> str:
    table = _table(["field", "value"])
    for name, value in body.items():
        table.add_row(name, _cell(value))
    return _drawn(table, width)


def _table(columns: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SQUARE, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", max_width=None if column == "value" else CELL_WIDTH)
    return table


def _drawn(table: Table, width: int | None) -> str:
    from rich.console import Console

    console = Console(width=width or terminal_width(), markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")


def terminal_width() -> int:
    """Return how wide a table may be."""
    return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return ", ".join(_cell(item) for item in value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return without_controls(text)


def without_controls(text: str) -> str:
    """Return a text that a terminal shows and does not obey: names come from devices and other people."""
    return _CONTROL.sub("?", text)


def explain(error: HardpointClientError, what: str, out: TextIO) -> int:
    """Print an error in words and return the exit code."""
    if isinstance(error, OperationError):
        return _explain_answer(error.error, what, out)
    print(f"{what}: {without_controls(str(error))}", file=out)
    if isinstance(error, NotLoggedInError):
        print(_LOG_IN, file=out)
        return EXIT_NO_SESSION
    if isinstance(error, JobTimeoutError):
        print(f"  follow it: hardpoint job {error.job_uuid}", file=out)
        return EXIT_FAILED
    if isinstance(error, NoAnswerError):
        return EXIT_NO_ANSWER
    return EXIT_REFUSED if isinstance(error, RequestError) else EXIT_FAILED


def _explain_answer(error: ErrorCode, what: str, out: TextIO) -> int:
    if error.code == WRONG_PASSWORD:
        print(f"{what}: {without_controls(error.details).partition(';')[0]}", file=out)
        return EXIT_NO_SESSION
    for line in _described(error, what):
        print(without_controls(line), file=out)
    if error.code != NO_SESSION:
        return EXIT_FAILED
    print(_LOG_IN, file=out)
    return EXIT_NO_SESSION


_LOG_IN = "  log in: hardpoint login, or LogInByAccount accountName=... password=..."


def _described(error: ErrorCode, what: str) -> Iterable[str]:
    yield f"{what} failed: {error.code} {error.description}".rstrip()
    yield from (f"  {line}" for line in error.details.splitlines())
    cause, indent = error.cause, "  "
    while cause is not None:
        yield f"{indent}cause: {cause.code} {cause.description}".rstrip()
        yield from (f"{indent}  {line}" for line in cause.details.splitlines())
        cause, indent = cause.cause, indent + "  "
