"""What is wrong in the fleet, as the API shows it: an extension."""

from __future__ import annotations

from mn.facilities.issues.refresh import refresh_issues
from mn.facilities.issues.tables import ISSUE
from mn.rest.operation import Query
from mn.rest.services import Services


class QueryIssue(Query, path=("/issues", "/issues/{uuid}"), reply=ISSUE):
    """Query what is wrong in the fleet now, since when, and what helps (extension)."""

    @classmethod
    async def prepare(cls, services: Services) -> None:
        """Look at the fleet first."""
        await refresh_issues(services)
