from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mn import facilities
from mn.rest.operation import Kind, Operation, registry
from mn.rest.router import Router


def operation(
    name: str, path: str | tuple[str, ...], kind: Kind = Kind.GET, wrappers: tuple[str, ...] = ()
) -> type[Operation]:
    """Return what the router looks at of an operation, so that none has to be registered."""
    paths = (path,) if isinstance(path, str) else path
    spec = SimpleNamespace(name=name, kind=kind, paths=paths, also_at=(), wrappers=wrappers)
    return cast("type[Operation]", SimpleNamespace(__name__=name, spec=spec))


def found(router: Router, path: str, method: str = "GET") -> tuple[str, dict[str, str]] | None:
    match = router.match(path)
    if match is None or method not in match.methods:
        return None
    ((entry, values),) = match.methods[method]
    return cast("Any", entry).__name__, values


HOSTS = Router(
    [
        operation("Query", ("/hosts", "/hosts/{uuid}")),
        operation("Types", "/hosts/types"),
        operation("Deep", "/hosts/types/{uuid}/deep"),
        operation("Update", "/hosts/{uuid}/actions", Kind.ACTION, ("update",)),
        operation("Shell", "/hosts/kvm/actions", Kind.ACTION, ("shell",)),
        operation("Ref", "/{a}/refs/{b}"),
    ]
)


@pytest.mark.parametrize(
    ("path", "name", "values"),
    [
        ("/hosts", "Query", {}),
        ("/hosts/", "Query", {}),
        ("/hosts/u1", "Query", {"uuid": "u1"}),
        ("/hosts/u1/", "Query", {"uuid": "u1"}),
        ("/hosts/types", "Types", {}),
        ("/hosts/types/u1/deep", "Deep", {"uuid": "u1"}),
        ("/x/refs/y", "Ref", {"a": "x", "b": "y"}),
        ("/hosts/refs/y", "Ref", {"a": "hosts", "b": "y"}),
        ("/hosts/a%2Fb", "Query", {"uuid": "a/b"}),
        ("/hosts/%7Buuid%7D", "Query", {"uuid": "{uuid}"}),
    ],
)
def test_static_segments_win_and_placeholders_take_the_rest(
    path: str, name: str, values: dict[str, str]
) -> None:
    assert found(HOSTS, path) == (name, values)


def test_a_static_segment_that_leads_nowhere_gives_way_to_a_placeholder() -> None:
    router = Router([operation("Static", "/hosts/kvm/actions"), operation("Held", "/hosts/{uuid}/volumes")])
    assert found(router, "/hosts/kvm/volumes") == ("Held", {"uuid": "kvm"})
    assert found(router, "/hosts/kvm/actions") == ("Static", {})
    assert router.match("/hosts/kvm") is None


def test_a_verb_of_a_static_path_is_told_apart_from_the_placeholder() -> None:
    assert found(HOSTS, "/hosts/kvm/actions", "PUT") == ("Shell", {})
    assert found(HOSTS, "/hosts/u1/actions", "PUT") == ("Update", {"uuid": "u1"})


@pytest.mark.parametrize(
    "path", ["", "/", "/host", "/hosts/u1/x", "/hosts//actions", "/hosts/types/u1", "//"]
)
def test_other_paths_lead_nowhere(path: str) -> None:
    assert HOSTS.match(path) is None


def test_actions_on_one_path_are_told_apart_by_their_wrappers() -> None:
    router = Router(
        [
            operation("Start", "/vms/{uuid}/actions", Kind.ACTION, ("startVm",)),
            operation("Stop", "/vms/{vmUuid}/actions", Kind.ACTION, ("stopVm",)),
        ]
    )
    match = router.match("/vms/u1/actions")
    assert match
    assert [(cast("Any", o).__name__, values) for o, values in match.methods["PUT"]] == [
        ("Start", {"uuid": "u1"}),
        ("Stop", {"vmUuid": "u1"}),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("/a/{uuid}", Kind.GET, ()), ("/a/{other}", Kind.QUERY, ())),
        (("/a", Kind.CREATE, ("params",)), ("/a/", Kind.CREATE, ("params",))),
        (("/a/{x}/actions", Kind.ACTION, ("go",)), ("/a/{y}/actions", Kind.SYNC_ACTION, ("stop", "go"))),
    ],
)
def test_two_operations_that_answer_the_same_request_are_refused_at_the_start(
    first: tuple[Any, ...], second: tuple[Any, ...]
) -> None:
    operations = [
        operation(name, path, kind, wrappers)
        for name, (path, kind, wrappers) in (("One", first), ("Two", second))
    ]
    with pytest.raises(TypeError, match="Two and One answer the same request"):
        Router(operations)


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4), st.booleans())
def test_any_path_is_looked_up_without_harm(segments: list[str], slash: bool) -> None:
    match = HOSTS.match("/" + "/".join(segments) + "/" * slash)
    assert match is None or match.methods


def test_the_operations_of_the_product_do_not_clash() -> None:
    facilities.load()
    router = Router(registry.values())
    for known in registry.values():
        for path in known.spec.paths:
            match = router.match(path.replace("{", "").replace("}", ""))
            assert match
            assert known in [o for o, _ in match.methods[known.spec.kind.method]]
