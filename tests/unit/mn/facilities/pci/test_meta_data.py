"""Metadata of PCI devices: one text in, entries out."""

from __future__ import annotations

import pytest

from agentkit.errors import HardpointError
from mn.facilities.pci.meta_data import parse_meta_data


def test_keys_and_values_become_entries_and_the_text_that_the_manual_shows() -> None:
    assert parse_meta_data("key1:value1;key2:value2") == {
        "metaData": "key1:Equal:value1;key2:Equal:value2",
        "metaDataEntries": [
            {"key": "key1", "op": "Equal", "value": "value1"},
            {"key": "key2", "op": "Equal", "value": "value2"},
        ],
    }


def test_what_inventories_show_is_taken_again() -> None:
    shown = "render:Equal:true;anime:Unequal:true"
    document = parse_meta_data(shown)
    assert document is not None
    assert document["metaData"] == shown
    assert [entry["op"] for entry in document["metaDataEntries"]] == ["Equal", "Unequal"]


def test_a_value_may_have_colons() -> None:
    document = parse_meta_data(" at : 0000:3b:00.0 ;")
    assert document is not None
    assert document["metaDataEntries"] == [{"key": "at", "op": "Equal", "value": "0000:3b:00.0"}]


@pytest.mark.parametrize("empty", ["", "  "])
def test_nothing_is_no_metadata(empty: str) -> None:
    assert parse_meta_data(empty) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("key", "'key' has no value"),
        ("a:1;b", "'b' has no value"),
        ("a:1;:2", "':2' has no key"),
        ("a:", "'a:' has no value"),
        ("a:Equal:", "'a:Equal:' has no value"),
        ("a:1;;b:2", "'' has no value"),
        (";", "'' has no value"),
        ("a:1;a:2", "'a' comes twice"),
    ],
)
def test_what_is_malformed_is_refused_and_named(text: str, named: str) -> None:
    with pytest.raises(HardpointError) as caught:
        parse_meta_data(text)
    assert caught.value.code == "SYS.1007"
    assert named in caught.value.details
    assert caught.value.remedy
