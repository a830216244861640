from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import Blame, HardpointError
from mn.db.vault import Vault
from mn.rest.operation import Get, registry
from mn.rest.parameters import bind, left_aside, query_values, whole_numbers
from mn.rest.types import HostAddress, Name, Port, Ref, RequestCodec, Secret, Tags

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


class Example(Get):
    """Every kind of parameter; it has no path, so it is not registered."""

    name: Name
    ssh_port: Port = 22
    address: HostAddress | None = None
    password: Secret | None = None
    colour: Literal["red", "green"] = "red"
    flag: bool = False
    uuids: list[Ref] | None = None
    limits: dict[str, int] | None = None

    def check(self) -> None:
        if self.name == "impossible":
            raise HardpointError("SYS.1007", "Invalid argument", "Example: parameter 'name' is impossible")


FIELDS = [field.encode_name for field in msgspec.structs.fields(Example)]


def bound(lax: bool = False, **given: Any) -> Any:
    return bind(Example, {"name": "n", **given}, lax=lax)


def fault(lax: bool = False, **given: Any) -> str:
    with pytest.raises(HardpointError) as caught:
        bound(lax, **given)
    assert caught.value.code == "SYS.1007"
    assert caught.value.details.startswith("Example: parameter ")
    return caught.value.details


def test_the_example_is_no_operation_of_the_product() -> None:
    assert "Example" not in registry


def test_names_are_camel_case_outside_and_defaults_fill_what_is_not_given() -> None:
    example = bound(sshPort=2222, ssh_port=1, unknown="left aside")
    assert (example.name, example.ssh_port, example.colour, example.system_tags) == ("n", 2222, "red", [])


def test_every_fault_is_named_with_what_would_be_right() -> None:
    with pytest.raises(HardpointError) as caught:
        bind(Example, {"sshPort": 0, "colour": "blue", "flag": "yes", "uuids": [1]}, lax=False)
    assert caught.value.blame is Blame.CALLER
    assert caught.value.details == (
        "Example: parameter 'name' is missing: give a text of 1 to 255 characters, "
        "none of them a control character, "
        "parameter 'sshPort' is 0: give a whole number from 1 to 65535, "
        "parameter 'colour' is \"blue\": give one of red, green, "
        "parameter 'flag' is \"yes\": give true or false, "
        "parameter 'uuids' is [1]: give a list, each item the uuid of a resource"
    )


def test_what_an_operation_checks_by_itself_is_refused_too() -> None:
    assert fault(name="impossible") == "Example: parameter 'name' is impossible"


def test_texts_are_trimmed_and_secrets_are_not() -> None:
    example = bound(name="  a b ", uuids=[" u "], password=" p ", address=" h ")
    assert (example.name, example.uuids, example.password.text, example.address.text) == (
        "a b",
        ["u"],
        " p ",
        "h",
    )


@pytest.mark.parametrize("control", ["\0", "\x1b", "\n", "\t", "\x7f", "\x80", "\x9b"])
@pytest.mark.parametrize("name", ["ra{}ck", "r{}ack", "rac{}k"])
def test_a_name_holds_no_control_characters(name: str, control: str) -> None:
    text = name.format(control)
    with pytest.raises(HardpointError) as caught:
        bind(Example, {"name": text}, lax=False)
    assert caught.value.code == "SYS.1007"
    assert "none of them a control character" in caught.value.details
    assert control not in caught.value.details


def test_the_type_of_names_itself_refuses_a_newline_at_the_end() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert("rack\n", Name)


@pytest.mark.parametrize("name", ["größe 大小 🖥", "a\u00a0b", "x" * 255])
def test_a_name_holds_any_other_character(name: str) -> None:
    assert bind(Example, {"name": name}, lax=False).name == name  # type: ignore[attr-defined]


def test_null_is_as_good_as_nothing() -> None:
    assert bound(sshPort=None, password=None).ssh_port == 22
    assert "'name' is missing" in fault(name=None)


@pytest.mark.parametrize("secret", [5, ["hunter2"], "", {"hunter2": 1}])
def test_a_secret_is_not_shown_in_a_fault(secret: object) -> None:
    details = fault(password=secret)
    assert "'password' is *****: give a text" in details
    assert "hunter2" not in details


def test_a_long_value_is_cut_in_a_fault() -> None:
    details = fault(name="x" * 5000)
    assert len(details) < 200
    assert "..." in details


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"sshPort": ["2222"]}, "ssh_port", 2222),
        ({"flag": ["true"]}, "flag", True),
        ({"flag": ["False"]}, "flag", False),
        ({"uuids": ["a", "b"]}, "uuids", ["a", "b"]),
        ({"uuids": ["a,b", " c , "]}, "uuids", ["a", "b", "c"]),
        ({"name": ["a,b"]}, "name", "a,b"),
        ({"name": ["5"]}, "name", "5"),
        ({"password": [" a,b "]}, "password", Secret(" a,b ")),
    ],
)
def test_a_query_string_gives_texts_for_everything(given: dict[str, Any], name: str, value: object) -> None:
    assert getattr(bound(lax=True, **given), name) == value


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"name": ["a", "b"]}, "name"),
        ({"sshPort": ["1", "2"]}, "sshPort"),
        ({"sshPort": ["many"]}, "sshPort"),
        ({"flag": ["maybe"]}, "flag"),
    ],
)
def test_a_query_string_that_does_not_fit_is_refused(given: dict[str, Any], name: str) -> None:
    assert f"'{name}'" in fault(lax=True, **given)


@given(st.dictionaries(st.sampled_from(FIELDS), json_values), st.booleans())
def test_whatever_is_sent_is_bound_or_refused_by_name(given: dict[str, Any], lax: bool) -> None:
    values = query_values([(k, str(v)) for k, v in given.items()]) if lax else given
    try:
        bind(Example, values, lax=lax)
    except HardpointError as error:
        refused = error.details
        assert error.code == "SYS.1007"  # noqa: PT017 - it may as well be bound
        assert any(f"'{name}'" in refused for name in FIELDS)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8::0:1]", "2001:db8::1"),
        ("Host-1.Example.", "host-1.example"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1a.2b", "1a.2b"),
    ],
)
def test_an_address_is_kept_in_its_shortest_form(text: str, address: str) -> None:
    assert HostAddress.parse(text).text == address


@pytest.mark.parametrize(
    "text",
    ["", "-a", "a-", "a..b", "a b", "1.2.3", "256.1.1.1", "a_b", "ä", "a" * 64, ("a" * 60 + ".") * 5, "h;id"],
)
def test_what_is_no_address_is_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is the address
        HostAddress.parse(text)


def test_a_secret_is_stars_wherever_it_is_printed() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {bound(password='hunter2')}"


def test_whole_floats_become_integers_wherever_they_are() -> None:
    value = {"a": 22.0, "b": [1.0, 1.5, {"c": -0.0}], "d": "1.0", "e": 1e300, "f": True}
    whole = whole_numbers(value)
    assert whole == {"a": 22, "b": [1, 1.5, {"c": 0}], "d": "1.0", "e": int(1e300), "f": True}
    assert [type(whole["a"]), type(whole["b"][0]), type(whole["f"])] == [int, int, bool]


def test_a_query_string_may_number_the_items_of_a_list() -> None:
    pairs = [("a.0", "x"), ("a.1", "y"), ("b", "z"), ("a", "w"), ("c.d", "v"), (".0", "u")]
    assert query_values(pairs) == {"a": ["x", "y", "w"], "b": ["z"], "c.d": ["v"], "": ["u"]}


def test_the_journal_holds_secrets_sealed_and_gives_the_same_operation_back() -> None:
    codec = RequestCodec(Vault(b"k" * 32))
    example = bound(password="hunter2", address="[::1]", uuids=["a"], systemTags=["t"])
    encoded = codec.encode(example)
    assert "hunter2" not in encoded
    assert codec.decode(Example, encoded) == example


def test_equal_requests_have_equal_digests_that_say_nothing_without_the_key() -> None:
    codec, other = RequestCodec(Vault(b"k" * 32)), RequestCodec(Vault(b"l" * 32))
    first, same, different = bound(password="a"), bound(password="a"), bound(password="b")
    assert codec.digest(first) == codec.digest(same)
    assert codec.digest(first) != codec.digest(different)
    assert codec.digest(first) != other.digest(first)


def test_tags_are_lists_of_texts() -> None:
    tags: Tags = bound(systemTags=["a::b"]).system_tags
    assert tags == ["a::b"]
    assert "'systemTags'" in fault(systemTags=[""])


class _Labelled(Get):
    """It registers nothing, having no path."""

    labels: dict[str, str] | None = None
    sizes: dict[str, int] | None = None
    name: str | None = None


def test_a_map_in_a_query_string_comes_key_by_key() -> None:
    given = query_values([("labels.zone", "a"), ("labels.a.b", "c"), ("sizes.x", "5"), ("name", "n")])
    bound = bind(_Labelled, given, lax=True)
    assert isinstance(bound, _Labelled)
    assert (bound.labels, bound.sizes, bound.name) == ({"zone": "a", "a.b": "c"}, {"x": 5}, "n")


def test_a_map_with_a_wrong_value_is_named() -> None:
    with pytest.raises(HardpointError, match="'sizes' is"):
        bind(_Labelled, query_values([("sizes.x", "much")]), lax=True)


def test_what_is_no_parameter_is_told_from_what_is_one() -> None:
    names = ["labels", "labels.zone", "name", "name.x", "nmae", "systemTags", "user_tags"]
    assert left_aside(_Labelled, names) == ["name.x", "nmae", "user_tags"]
