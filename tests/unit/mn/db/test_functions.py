from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mn.db.functions import format_date, like


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (1483674676, "Jan 6, 2017 3:51:16 AM"),
        (1496870428, "Jun 7, 2017 9:20:28 PM"),
        (0, "Jan 1, 1970 12:00:00 AM"),
        (43200, "Jan 1, 1970 12:00:00 PM"),
        (43199, "Jan 1, 1970 11:59:59 AM"),
        (951825600, "Feb 29, 2000 12:00:00 PM"),
        (None, None),
    ],
)
def test_a_date_is_printed_as_the_manual_does_in_utc(moment: int | None, shown: str | None) -> None:
    assert format_date(moment) == shown


@given(st.integers(0, 253402300799))
def test_a_printed_date_is_read_back_as_the_same_moment(moment: int) -> None:
    shown = format_date(moment)
    assert shown
    assert re.fullmatch(r"[A-Z][a-z]{2} \d{1,2}, \d{4} \d{1,2}:\d\d:\d\d [AP]M", shown)
    read = datetime.strptime(shown, "%b %d, %Y %I:%M:%S %p").replace(tzinfo=UTC)
    assert int(read.timestamp()) == moment


@given(st.text(max_size=10))
def test_every_text_is_like_itself_and_like_anything(value: str) -> None:
    assert like(value, value) == 1 or set(value) & set("%_")
    assert like("%", value) == 1
    assert like("_" * len(value), value) == 1
    assert like("_" * (len(value) + 1), value) == 0


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
def test_percent_is_any_run(head: str, middle: str, tail: str) -> None:
    pattern = f"{head}%{tail}"
    if not set(head + tail) & set("%_"):
        assert like(pattern, head + middle + tail) == 1


def test_null_is_like_nothing_and_unlike_nothing() -> None:
    assert like("%", None) is None
    assert like(None, "a") is None


def test_a_number_is_like_its_digits() -> None:
    assert like("4%", 42) == 1
