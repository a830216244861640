"""docs/errors.md lists every error code of the source, and where it is raised."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("mn", "agentkit", "kvmagent", "storageagent", "cephagent", "simulator")
BASE = "HardpointError"
CODE = re.compile(r"[A-Z_]+\.1\d{3}")
HEADER = ["Code", "Meaning", "Typical causes", "Remedy", "Where"]


@cache
def _sources() -> dict[Path, ast.Module]:
    files = [file for package in PACKAGES for file in sorted((REPOSITORY / package).rglob("*.py"))]
    return {file.relative_to(REPOSITORY): ast.parse(file.read_text()) for file in files}


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _subclasses(tree: ast.Module) -> Iterator[ast.ClassDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(_name(base) == BASE for base in node.bases):
            yield node


def _place(file: Path) -> str:
    """Return the part of the source that a file belongs to, as the table calls it."""
    return "/".join(file.parts[: 2 if file.parts[0] == "mn" and len(file.parts) > 2 else 1])


def _calls() -> Iterator[tuple[Path, ast.Call]]:
    """Yield each call that makes an error with a code: of the class, of a subclass, of super in one."""
    trees = _sources()
    plain = {BASE}
    for tree in trees.values():
        plain |= {c.name for c in _subclasses(tree) if not any(_is_init(item) for item in c.body)}
    for file, tree in trees.items():
        own_init = [c for c in _subclasses(tree) if any(_is_init(item) for item in c.body)]
        supers = [n for c in own_init for n in ast.walk(c) if _is_super_init(n)]
        for node in [*ast.walk(tree), *supers]:
            if isinstance(node, ast.Call) and (_name(node.func) in plain or node in supers):
                yield file, node


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _is_super_init(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__"


@cache
def _raised() -> dict[str, set[str]]:
    """Return the places that raise each code."""
    raised: dict[str, set[str]] = {}
    for file, call in _calls():
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Constant):
            raised.setdefault(first.value, set()).add(_place(file))
    return raised


def _documented() -> dict[str, list[str]]:
    """Return the cells of the table by code."""
    lines = (REPOSITORY / "docs" / "errors.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0] == HEADER
    codes = [row[0] for row in rows[2:]]
    assert codes == sorted(set(codes)), "each code once, in order"
    return {row[0]: row for row in rows[2:]}


def test_every_error_is_made_with_a_code_that_can_be_read_in_the_source() -> None:
    for file, call in _calls():
        first = ast.unparse(call.args[0]) if call.args else "nothing"
        handed_on = first.endswith(".code")  # an error made of another one keeps its code
        assert handed_on or CODE.fullmatch(first.strip("'")), f"{file}:{call.lineno}: code is {first}"


def test_a_code_has_one_summary_wherever_it_is_raised() -> None:
    summaries: dict[str, dict[str, str]] = {}
    for file, call in _calls():
        if isinstance(call.args[0], ast.Constant):
            summary = ast.unparse(call.args[1])
            summaries.setdefault(call.args[0].value, {}).setdefault(summary, f"{file}:{call.lineno}")
    differing = {code: places for code, places in summaries.items() if len(places) > 1}
    assert not differing, "a code's summary is a fixed text; what differs belongs into the details"


def test_every_code_of_the_source_is_in_the_table_and_the_table_has_no_other() -> None:
    assert set(_documented()) == set(_raised())


@pytest.mark.parametrize("code", sorted(_raised()))
def test_the_table_says_where_a_code_comes_from(code: str) -> None:
    assert set(_documented()[code][4].split(", ")) == _raised()[code]


@pytest.mark.parametrize("code", sorted(_documented()))
def test_each_row_says_what_it_means_what_leads_to_it_and_what_helps(code: str) -> None:
    row = _documented()[code]
    assert len(row) == len(HEADER)
    assert all(len(cell) > 5 for cell in row[1:4])


def test_a_code_that_is_compared_with_exists() -> None:
    known = set(_raised())
    for file, tree in _sources().items():
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        assert {text for text in texts if CODE.fullmatch(text)} <= known, file
