from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentkit.errors import Blame, HardpointError
from mn.query.parse import DEFAULT_LIMIT, MAX_NUMBER, Condition, Operator, Query, parse_condition, parse_query

SYMBOLS = ["=", "!=", ">", "<", ">=", "<=", "?=", "!?=", "~=", "!~="]
identifiers = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
paths = st.lists(identifiers, min_size=1, max_size=4)
values = st.text(max_size=20) | st.sampled_from(
    ["", "=", "a=b", ">=", "!=", "null ", "~=%", " x ", "a,b", "\n", "' OR 1=1 --"]
)


def refusal(text: str) -> str:
    with pytest.raises(HardpointError) as caught:
        parse_condition(text)
    assert caught.value.code == "SYS.1007"
    assert caught.value.blame is Blame.CALLER
    assert f"'{text}'" in caught.value.details
    return caught.value.details


@given(paths, st.sampled_from(SYMBOLS), values)
@example(["name"], "=", "a>=b")
@example(["name"], ">", "!=")
def test_field_operator_and_value_come_back_as_they_were_written(
    path: list[str], symbol: str, value: str
) -> None:
    if symbol in (">", "<", "=", "!=") and (value.startswith("=") or value == "null"):
        return  # those are longer operators, or null tests
    text = f"{'.'.join(path)}{symbol}{value}"
    assert parse_condition(text) == Condition(text, tuple(path[:-1]), path[-1], Operator(symbol), value)


@pytest.mark.parametrize(
    ("text", "operator", "value"),
    [
        ("a>=1", Operator.GREATER_EQUAL, "1"),
        ("a<=1", Operator.LESS_EQUAL, "1"),
        ("a>=", Operator.GREATER_EQUAL, ""),
        ("a!?=1,2", Operator.NOT_IN, "1,2"),
        ("a?=1,2", Operator.IN, "1,2"),
        ("a!~=%", Operator.NOT_LIKE, "%"),
        ("a~==", Operator.LIKE, "="),
        ("a==", Operator.EQUAL, "="),
        ("a=!=b", Operator.EQUAL, "!=b"),
        ("a=b>=c", Operator.EQUAL, "b>=c"),
        ("a>b!=c", Operator.GREATER, "b!=c"),
        ("a=null ", Operator.EQUAL, "null "),
        ("a=NULL", Operator.EQUAL, "NULL"),
        ("a>null", Operator.GREATER, "null"),
        ("a= x ", Operator.EQUAL, " x "),
        ("a=\n", Operator.EQUAL, "\n"),
    ],
)
def test_the_leftmost_operator_counts_and_is_as_long_as_can_be(
    text: str, operator: Operator, value: str
) -> None:
    condition = parse_condition(text)
    assert (condition.field, condition.operator, condition.value) == ("a", operator, value)


@pytest.mark.parametrize(
    ("text", "operator"),
    [
        ("a=null", Operator.IS_NULL),
        ("a is null", Operator.IS_NULL),
        ("a  IS   NULL ", Operator.IS_NULL),
        ("a!=null", Operator.NOT_NULL),
        ("a not null", Operator.NOT_NULL),
        ("a is not null", Operator.NOT_NULL),
    ],
)
def test_a_null_test_may_be_written_in_all_four_ways(text: str, operator: Operator) -> None:
    assert parse_condition(text) == Condition(text, (), "a", operator, "")
    assert parse_condition(f"b.c.{text}") == Condition(f"b.c.{text}", ("b", "c"), "a", operator, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("uuid = 5", "there is a space before its operator"),
        ("uuid", "it has no operator"),
        ("uuid is", "it has no operator"),
        ("a.b.", "it has no operator"),
        ("a..b=1", "it has no operator"),
        ("", "it does not begin with a field"),
        ("=x", "it does not begin with a field"),
        (" a=x", "it does not begin with a field"),
        ("1a=x", "it does not begin with a field"),
        ("ä=x", "it does not begin with a field"),
        ("'; DROP TABLE zone; --", "it does not begin with a field"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_reason(text: str, reason: str) -> None:
    assert refusal(text).endswith(reason)


@given(st.text(max_size=30))
def test_every_text_is_a_condition_or_is_refused(text: str) -> None:
    condition = None
    with contextlib.suppress(HardpointError):
        condition = parse_condition(text)
    if condition is None:
        refusal(text)
    else:
        assert text.startswith(".".join([*condition.hops, condition.field]))
        assert text.endswith(condition.value)


def test_nothing_asked_for_is_everything_up_to_the_default_limit() -> None:
    assert parse_query({}) == Query(limit=DEFAULT_LIMIT)


def test_all_parameters_of_a_query() -> None:
    query = parse_query(
        {
            "q": ["a=1", "b.c=2"],
            "condition": ["d=3"],
            "limit": ["10"],
            "start": [" 5 "],
            "count": ["TRUE"],
            "replyWithCount": ["true"],
            "groupBy": ["type"],
            "sort": ["-name"],
            "fields": ["a, b", "c"],
            "unknown": ["left", "aside"],
        }
    )
    assert [c.text for c in query.conditions] == ["a=1", "b.c=2", "d=3"]
    assert (query.limit, query.start, query.count, query.reply_with_count) == (10, 5, True, True)
    assert (query.group_by, query.sort, query.descending) == ("type", "name", True)
    assert query.fields == ("a", "b", "c")


@pytest.mark.parametrize("sort", ["+name", " name", "name"])
def test_sorting_is_upwards_unless_it_says_downwards(sort: str) -> None:
    query = parse_query({"sort": [sort]})
    assert (query.sort, query.descending) == ("name", False)


@pytest.mark.parametrize("text", ["22.0", "022", str(MAX_NUMBER)])
def test_whole_numbers_may_be_written_as_floats(text: str) -> None:
    assert parse_query({"limit": [text]}).limit == int(float(text)) or int(text) == MAX_NUMBER


@pytest.mark.parametrize("name", ["limit", "start"])
@pytest.mark.parametrize("text", ["", "-1", "1.5", "1e3", "many", "٣", str(MAX_NUMBER + 1), "9" * 5000])
def test_a_number_that_is_none_is_refused(name: str, text: str) -> None:
    with pytest.raises(HardpointError) as caught:
        parse_query({name: [text]})
    assert f"'{name}'" in caught.value.details


@pytest.mark.parametrize("name", ["limit", "start", "count", "replyWithCount", "groupBy", "sort"])
def test_a_scalar_given_twice_is_refused(name: str) -> None:
    with pytest.raises(HardpointError) as caught:
        parse_query({name: ["true", "true"]})
    assert caught.value.details == f"parameter '{name}' is given 2 times"


@pytest.mark.parametrize("text", ["maybe", "1", "yes"])
def test_a_truth_value_is_true_or_false(text: str) -> None:
    with pytest.raises(HardpointError, match="count"):
        parse_query({"count": [text]})
