"""System and user tags of resources."""

from __future__ import annotations

from mn.db.tags import tag_table
from mn.query.resource import Resource
from mn.rest.operation import Query

TAG = Resource("Tag", tag_table)


class QueryTag(Query, path=("/tags", "/tags/{uuid}"), reply=TAG):
    """Query tags of both kinds (extension)."""
