from __future__ import annotations

import pytest

from mnclient.description import shipped
from mnclient.errors import RequestError
from mnclient.shell.syntax import Command, UnknownNameError, parse, quoted, split, without_secrets


def _texts(line: str) -> list[str]:
    return [word.text for word in split(line)]


def _parsed(line: str) -> Command:
    return parse(_texts(line), shipped())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("QueryZone name=zone1", ["QueryZone", "name=zone1"]),
        ('CreateZone description="text with blanks"', ["CreateZone", "description=text with blanks"]),
        ("CreateZone description='it is \"so\"'", ["CreateZone", 'description=it is "so"']),
        (r'a="say \"hi\" \\o/"', [r'a=say "hi" \o/']),
        ('A m={"a": [1, "}"]} b=c', ["A", 'm={"a": [1, "}"]}', "b=c"]),
        ('A l=["a b", "c"]', ["A", 'l=["a b", "c"]']),
        ("  ", []),
        ('a="" b', ["a=", "b"]),
        ("name~=a\\_b", ["name~=a\\_b"]),
    ],
)
def test_a_line_is_split_into_words(line: str, words: list[str]) -> None:
    assert _texts(line) == words


def test_a_quote_that_is_not_closed_is_noticed() -> None:
    assert split('CreateZone name="a b')[-1].is_open
    assert not split('CreateZone name="a b"')[-1].is_open


@pytest.mark.parametrize("text", ["zone1", "two words", 'a "quote"', "it's", "back\\slash", ""])
def test_a_quoted_value_is_read_back_as_it_was(text: str) -> None:
    assert _texts(f"name={quoted(text)}") == [f"name={text}"]


def test_a_query_takes_conditions_and_options_apart() -> None:
    line = (
        "QueryHost name=a cluster.name!=c fields=name,uuid limit=3 sortBy=name sortDirection=asc count=true"
    )
    assert _parsed(line).values == {
        "conditions": ["name=a", "cluster.name!=c"],
        "fields": ["name", "uuid"],
        "limit": 3,
        "sortBy": "name",
        "sortDirection": "asc",
        "count": True,
    }


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("name~=vm", "name~=%vm%"),
        ("name!~=vm", "name!~=%vm%"),
        ("name~=vm%", "name~=vm%"),
        ("name~=v_1", "name~=v_1"),
        ("name?=a,b", "name?=a,b"),
        ("name=null", "name=null"),
        ("cpuNum>=4", "cpuNum>=4"),
        ("description is null", "description is null"),
        ("description NOT null", "description not null"),
        ("name==x", "name==x"),
        ("__systemTag__=a::b", "__systemTag__=a::b"),
    ],
)
def test_a_condition_is_sent_as_the_manual_says(typed: str, sent: str) -> None:
    assert _parsed(f"QueryHost {typed}").values["conditions"] == [sent]


def test_sort_of_the_api_is_understood_as_well() -> None:
    assert _parsed("QueryZone sort=-name").values == {"sortBy": "name", "sortDirection": "desc"}


def test_lists_come_with_commas_repeated_or_as_json() -> None:
    for given in ("hostUuids=a,b", "hostUuids=a hostUuids=b", 'hostUuids=["a","b"]'):
        assert _parsed(f"KvmRunShell {given} script=true").values["hostUuids"] == ["a", "b"]


def test_values_get_the_types_of_the_api() -> None:
    values = _parsed("AddKVMHost sshPort=22 name=12 systemTags=a::b").values
    assert values == {"sshPort": 22, "name": "12", "systemTags": ["a::b"]}


def test_an_operation_is_found_in_any_case_and_so_is_a_value_of_an_enum() -> None:
    command = _parsed("createcluster hypervisorType=kvm")
    assert command.operation.name == "CreateCluster"
    assert command.values == {"hypervisorType": "KVM"}


def test_the_timeout_stays_with_the_client() -> None:
    command = _parsed("CreateZone name=a timeout=2.5")
    assert (command.timeout_s, command.values) == (2.5, {"name": "a"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("CreateZone name", "'name' is not understood: write parameter=value"),
        ("CreateZone name!=a", "a parameter takes '=' only"),
        ("CreateZone name=a name=b", "'name' is given twice"),
        ("AddKVMHost sshPort=x", "'sshPort' is 'x': give a number"),
        ("QueryZone count=maybe", "'count' is 'maybe': give true or false"),
        ("QueryZone name", "'name' is not understood"),
        ("CreateZone timeout=0 name=a", "'timeout' is '0'"),
    ],
)
def test_what_is_wrong_is_named(line: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        _parsed(line)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("line", "hint"),
    [("CreatZone", "did you mean 'CreateZone'?"), ("CreateZone nmae=a", "did you mean 'name'?")],
)
def test_an_unknown_name_gets_a_hint(line: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        _parsed(line)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (
            "LogInByAccount accountName=admin password=secret",
            "LogInByAccount accountName=admin password=*****",
        ),
        ('AddKVMHost password="a b" name=x', "AddKVMHost password=***** name=x"),
        ("AddIscsiServer chapUserPassword='a b' name=x", "AddIscsiServer chapUserPassword=***** name=x"),
        ('X password="a \\" b" name=x', "X password=***** name=x"),
        ('X password="never closed', "X password=*****"),
        ("QueryZone name=password", "QueryZone name=password"),
    ],
)
def test_the_history_sees_no_password(line: str, kept: str) -> None:
    assert without_secrets(line) == kept
