"""From a path and a verb to operations: static segments win over placeholders, verbs are told apart
from paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

from mn.rest.operation import Operation


def shape(path: str) -> str:
    """Return what is equal for paths that are the same but for the names of their placeholders."""
    return re.sub(r"\{[^}]*\}", "{}", path.rstrip("/"))


@dataclass
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    placeholder: _Node | None = None
    methods: dict[str, list[tuple[type[Operation], tuple[str, ...]]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """What a path holds: operations by verb, each with the values of its placeholders."""

    methods: dict[str, list[tuple[type[Operation], dict[str, str]]]]


class Router:
    """The paths of a set of operations (below /v1)."""

    def __init__(self, operations: Iterable[type[Operation]]) -> None:
        self._root = _Node()
        for operation in operations:
            for path in (*operation.spec.paths, *operation.spec.also_at):
                self._add(operation, path)

    def match(self, path: str) -> Match | None:
        """Return what `path` holds, None when there is nothing."""
        segments = [unquote(s) for s in path.strip("/").split("/")]
        found = _find(self._root, segments, ())
        if found is None:
            return None
        node, values = found
        return Match(
            {
                method: [(op, dict(zip(names, values, strict=True))) for op, names in entries]
                for method, entries in node.methods.items()
            }
        )

    def _add(self, operation: type[Operation], path: str) -> None:
        node = self._root
        names: list[str] = []
        for segment in path.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.placeholder = node.placeholder or _Node()
                node = node.placeholder
            else:
                node = node.children.setdefault(segment, _Node())
        entries = node.methods.setdefault(operation.spec.kind.method, [])
        wrappers = {w for other, _ in entries for w in other.spec.wrappers}
        if entries and (not operation.spec.wrappers or wrappers & set(operation.spec.wrappers)):
            raise TypeError(
                f"{operation.__name__} and {entries[0][0].__name__} answer the same request: {path}"
            )
        entries.append((operation, tuple(names)))


def _find(node: _Node, segments: list[str], values: tuple[str, ...]) -> tuple[_Node, tuple[str, ...]] | None:
    if not segments:
        return (node, values) if node.methods else None
    head, rest = segments[0], segments[1:]
    if head in node.children and (found := _find(node.children[head], rest, values)):
        return found
    if node.placeholder and head:
        return _find(node.placeholder, rest, (*values, head))
    return None
