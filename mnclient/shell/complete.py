"""What may come next in a command: a pure function of the line, the API's description and what is live."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mnclient.description import Description, Operation, Parameter, Resource
from mnclient.shell.syntax import CLIENT_OPTIONS, OPERATORS, Word, assignment, quoted, split

CONDITIONS, JOINS, PARAMETERS = "Query Conditions", "Query Conditions", "Parameters"
REQUIRED, OPERATIONS, COMMANDS, VALUES = "Required Parameters", "Operations", "Commands", "Values"
OPERATOR_GROUP = "Operators"
TAGS = ("__systemTag__", "__userTag__")


@dataclass(frozen=True)
class Candidate:
    """What the word may become. `closed`: a blank follows it, else the word goes on."""

    text: str
    group: str
    note: str = ""
    closed: bool = False
    join: bool = False


@dataclass(frozen=True)
class Need:
    """Live resources that would help: those whose name or uuid begins with `prefix`."""

    resource: str
    prefix: str


@dataclass(frozen=True)
class Named:
    """A live resource."""

    uuid: str
    name: str


Live = Callable[[Need], "Sequence[Named] | None"]
"""Returns what is known of live resources; None when it has to be fetched first."""


@dataclass
class Completion:
    """Candidates for the text from `start` to the cursor. `needs`: what to fetch for a better answer."""

    start: int
    candidates: list[Candidate] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)

    def common(self) -> str:
        """Return what all candidates begin with."""
        texts = [candidate.text for candidate in self.candidates]
        first, last = min(texts, default=""), max(texts, default="")
        same = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
        return first[: next(same, min(len(first), len(last)))]


def nothing_live(_need: Need) -> Sequence[Named] | None:
    """Know of no live resource, and fetch none."""
    return ()


@dataclass
class _Place:
    """Where the cursor is: the words before it, and the word that it is in."""

    words: list[Word]
    word: Word
    description: Description
    live: Live
    completion: Completion

    def offer(
        self, text: str, group: str, note: str = "", *, closed: bool = False, join: bool = False
    ) -> None:
        self.completion.candidates.append(Candidate(text, group, note, closed, join))


def complete(
    line: str,
    description: Description,
    live: Live = nothing_live,
    commands: Mapping[str, str] | None = None,
) -> Completion:
    """Return what the line may go on with at its end. `commands` are the shell's own words with what
    they take.
    """
    words = split(line)
    if not words or (line[-1:].isspace() and not words[-1].is_open):
        words.append(Word("", len(line)))
    place = _Place(words[:-1], words[-1], description, live, Completion(words[-1].start))
    first = words[0].text
    if not place.words:
        _operations(place, commands or {})
    elif first in (commands or {}):
        _arguments(place, (commands or {})[first])
    elif operation := _operation(description, first):
        assigned = assignment(place.word.text)
        if assigned:
            _values(place, operation, *assigned)
        else:
            _names(place, operation)
    return place.completion


def _operation(description: Description, name: str) -> Operation | None:
    by_lower = {known.lower(): known for known in description.operations}
    found = by_lower.get(name.lower())
    return description.operations[found] if found else None


def _operations(place: _Place, commands: Mapping[str, str]) -> None:
    typed = place.word.text.lower()
    for operation in place.description.operations.values():
        if operation.served and operation.name.lower().startswith(typed):
            place.offer(operation.name, OPERATIONS, operation.description, closed=True)
    for command in commands:
        if command.startswith(place.word.text):
            place.offer(command, COMMANDS, closed=True)


def _arguments(place: _Place, taken: str) -> None:
    """`taken`: `operation`, or the words themselves, `json|yaml`."""
    if taken == "operation" and len(place.words) == 1:
        _operations(place, {})
    elif len(place.words) == 1:
        for word in filter(None, taken.split("|")):
            if word.startswith(place.word.text):
                place.offer(word, VALUES, closed=True)


def _names(place: _Place, operation: Operation) -> None:
    typed = place.word.text
    if operation.is_query:
        _conditions(place, operation, typed)
        if "." in typed:
            return
    given = {a[0] for word in place.words[1:] if (a := assignment(word.text))}
    offered = {
        p.name: p for p in operation.parameters.values() if p.name not in _UNOFFERED[operation.is_query]
    }
    for name in CLIENT_OPTIONS:
        offered.setdefault(name, Parameter(name, "Integer", description="seconds to wait for the result"))
    for name in sorted(offered, key=lambda name: (not offered[name].required, name)):
        parameter = offered[name]
        if name.startswith(typed) and (name not in given or parameter.type == "List"):
            place.offer(f"{name}=", REQUIRED if parameter.required else PARAMETERS, parameter.description)


_UNOFFERED = {True: ("conditions", "systemTags", "userTags"), False: ()}
"""Parameters that completion leaves out, of queries and of other operations."""


def _conditions(place: _Place, operation: Operation, typed: str) -> None:
    stem = typed.rstrip("!?~<>=")
    *hops, last = stem.split(".")
    resource = place.description.follow(operation.reply, hops)
    if resource is None:
        return
    prefix = "".join(f"{hop}." for hop in hops)
    if stem != typed or last in resource.fields:
        _operators(place, f"{prefix}{last}", typed[len(stem) :])
    if stem != typed:
        return
    for name in sorted(resource.relations):
        if name.startswith(last):
            place.offer(f"{prefix}{name}.", JOINS, resource.relations[name], join=True)
    for name in (*TAGS, *sorted(resource.fields)):
        if name.startswith(last) and name != last:
            described = resource.fields.get(name)
            place.offer(f"{prefix}{name}=", CONDITIONS, described.description if described else "a tag")


def _operators(place: _Place, path: str, begun: str) -> None:
    for operator in sorted(OPERATORS, key=len):
        if operator.startswith(begun):
            place.offer(f"{path}{operator}", OPERATOR_GROUP, _MEANING[operator])


_MEANING = {
    "=": "equal (=null: is null)",
    "!=": "not equal (!=null: is not null)",
    ">": "greater",
    "<": "less",
    ">=": "greater or equal",
    "<=": "less or equal",
    "?=": "one of a,b,c",
    "!?=": "none of a,b,c",
    "~=": "like",
    "!~=": "not like",
}


def _values(place: _Place, operation: Operation, name: str, operator: str, value: str) -> None:
    parameter = operation.parameters.get(name) if operator == "=" else None
    if parameter is not None:
        _parameter_values(place, operation, parameter, value)
        return
    if not operation.is_query:
        return
    *hops, last = name.split(".")
    resource = place.description.follow(operation.reply, hops)
    if resource is None or last not in resource.fields:
        return
    described = resource.fields[last]
    is_list = operator.endswith("?=")
    head = f"{name}{operator}"
    if described.type == "boolean":
        _choices(place, head, value, ("true", "false"), is_list=is_list)
    elif described.enum:
        _choices(place, head, value, described.enum, is_list=is_list)
    elif last == "name":
        _live_names(place, head, resource, value, is_list=is_list)
    elif last == "uuid":
        _live_uuids(place, head, resource.name, value, is_list=is_list)
    elif last.endswith("Uuid") and (target := place.description.named_by(last.removesuffix("Uuid"))):
        _live_uuids(place, head, target, value, is_list=is_list)


def _parameter_values(place: _Place, operation: Operation, parameter: Parameter, value: str) -> None:
    head, is_list = f"{parameter.name}=", parameter.type == "List"
    resource = place.description.resources.get(operation.reply or "")
    if parameter.type == "Boolean":
        _choices(place, head, value, ("true", "false"), is_list=False)
    elif parameter.enum:
        _choices(place, head, value, parameter.enum, is_list=is_list)
    elif operation.is_query and parameter.name in ("fields", "sortBy", "groupBy") and resource:
        _choices(place, head, value, tuple(sorted(resource.fields)), is_list=is_list)
    elif target := place.description.referred(operation, parameter.name):
        _live_uuids(place, head, target, value, is_list=is_list)


def _choices(place: _Place, head: str, value: str, choices: Sequence[str], *, is_list: bool) -> None:
    before, typed = _last_item(value) if is_list else ("", value)
    chosen = before.split(",")
    for choice in choices:
        if choice.lower().startswith(typed.lower()) and choice not in chosen:
            place.offer(f"{head}{before}{choice}", VALUES, closed=not is_list)


def _live_names(place: _Place, head: str, resource: Resource, value: str, *, is_list: bool) -> None:
    before, typed = _last_item(value) if is_list else ("", value)
    for found in _known(place, resource.name, typed):
        if found.name.startswith(typed):
            place.offer(head + quoted(before + found.name), VALUES, found.uuid, closed=not is_list)


def _live_uuids(place: _Place, head: str, resource: str, value: str, *, is_list: bool) -> None:
    """Offer uuids that begin with what is typed, and those of resources whose name does."""
    before, typed = _last_item(value) if is_list else ("", value)
    chosen = before.split(",")
    for found in _known(place, resource, typed):
        fits = found.uuid.startswith(typed) or found.name.lower().startswith(typed.lower())
        if fits and found.uuid not in chosen:
            place.offer(f"{head}{before}{found.uuid}", VALUES, found.name, closed=not is_list)


def _known(place: _Place, resource: str, prefix: str) -> Sequence[Named]:
    if place.description.query_of(resource) is None:
        return ()
    need = Need(resource, prefix)
    known = place.live(need)
    if known is None:
        place.completion.needs.append(need)
    return known or ()


def _last_item(value: str) -> tuple[str, str]:
    before, comma, last = value.rpartition(",")
    return before + comma, last
