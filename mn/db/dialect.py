"""What SQLite and PostgreSQL say differently, as SQL expressions that compile for both."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, String, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn
from sqlalchemy.sql.functions import FunctionElement

from mn.db.functions import fold, folded_characters


class json_text(FunctionElement[str]):  # noqa: N801 - written like a function
    """A text, number or truth value as JSON; null stays null."""

    type = String()
    inherit_cache = True


class json_truth(FunctionElement[str]):  # noqa: N801
    """A truth value that `json_text` and `json_row` show as true or false."""

    type = String()
    inherit_cache = True


class json_row(FunctionElement[str]):  # noqa: N801
    """A JSON object of names and values in turn; no value is null."""

    type = String()
    inherit_cache = True


class document_text(FunctionElement[str]):  # noqa: N801
    """A document's JSON; null when it is null in SQL or in JSON."""

    type = String()
    inherit_cache = True


class date_text(FunctionElement[str]):  # noqa: N801
    """Seconds since 1970 as the API prints dates."""

    type = String()
    inherit_cache = True


class joined(FunctionElement[str]):  # noqa: N801
    """All values of a subquery in its order, with commas between them; null when there is none."""

    type = String()
    inherit_cache = True


class sorted_by(FunctionElement[int]):  # noqa: N801
    """A column as something to order by that its index shall not be gone over for.

    SQLite has no idea how many rows a range finds, and would rather go over all in order than sort few.
    """

    type = BigInteger()
    inherit_cache = True


class _Like(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True


def like(value: Any, pattern: str) -> _Like:
    """Say whether a text matches a `%` and `_` pattern as MySQL's like does, without regard to case."""
    return _Like(fold(pattern), value)


@compiles(json_text)
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return f"json_quote({compiler.process(element.clauses, **kw)})"


@compiles(json_text, "postgresql")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return f"to_json({compiler.process(element.clauses, **kw)})::text"


@compiles(json_truth)
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return f"json(CASE WHEN {compiler.process(element.clauses, **kw)} THEN 'true' ELSE 'false' END)"


@compiles(json_truth, "postgresql")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return str(compiler.process(element.clauses, **kw))


@compiles(json_row)
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return f"json_object({compiler.process(element.clauses, **kw)})"


@compiles(json_row, "postgresql")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    items = [compiler.process(clause, **kw) for clause in element.clauses]
    pairs = zip(items[::2], items[1::2], strict=True)
    shown = " || ',' || ".join(
        f"to_json({name}::text)::text || ':' || to_json({value})::text" for name, value in pairs
    )
    return f"('{{' || {shown} || '}}')"


@compiles(document_text)
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return f"nullif(json({compiler.process(element.clauses, **kw)}), 'null')"


@compiles(document_text, "postgresql")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return f"nullif(({compiler.process(element.clauses, **kw)})::text, 'null')"


@compiles(date_text)
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return f"api_date({compiler.process(element.clauses, **kw)})"


@compiles(joined)
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return f"group_concat({compiler.process(element.clauses, **kw)}, ',')"


@compiles(joined, "postgresql")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return f"string_agg({compiler.process(element.clauses, **kw)}, ',')"


@compiles(sorted_by)
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return f"+{compiler.process(element.clauses, **kw)}"


@compiles(sorted_by, "postgresql")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return str(compiler.process(element.clauses, **kw))


@compiles(_Like)
def _(element: Any, compiler: Any, **kw: Any) -> str:
    pattern, value = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(api_like({pattern}, {value}) = 1)"


@compiles(_Like, "postgresql")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    pattern, value = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(api_fold({value}) LIKE {pattern} ESCAPE '')"


@compiles(CreateColumn, "postgresql")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    """Texts are ordered by their characters' numbers, as on SQLite, whatever the database's language is."""
    column = element.element
    specification: str = compiler.visit_create_column(element, **kw)
    if not isinstance(column.type, String) or column.type.collation:
        return specification
    kind = compiler.type_compiler.process(column.type)
    return specification.replace(kind, f'{kind} COLLATE "C"', 1)


def install_functions(connection: Connection) -> None:
    """Make `api_date` and `api_fold` known to a PostgreSQL database; SQLite is told for each connection."""
    if connection.scalar(text("SELECT obj_description(to_regproc('api_fold'))")) == _VERSION:
        return
    upper, lower = folded_characters()
    statement = _FUNCTIONS.replace("{upper}", upper).replace("{lower}", lower)
    for part in statement.split(";;"):
        connection.exec_driver_sql(part)


_VERSION = "Hardpoint 1"
_FUNCTIONS = f"""
CREATE OR REPLACE FUNCTION api_date(seconds bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_char(to_timestamp(seconds) AT TIME ZONE 'UTC', 'Mon FMDD, FMYYYY FMHH12:MI:SS AM')
$$;;
CREATE OR REPLACE FUNCTION api_fold(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN octet_length(value) = char_length(value) THEN lower(value COLLATE "C")
        ELSE translate(value, '{{upper}}', '{{lower}}') END
$$;;
COMMENT ON FUNCTION api_fold IS '{_VERSION}'
"""
