"""Global settings: query and change them."""

from __future__ import annotations

import msgspec

from mn.db.global_settings import change_setting, config_table, find_setting
from mn.query.parse import Condition, Operator
from mn.query.parse import Query as ParsedQuery
from mn.query.plan import run_query
from mn.query.resource import Resource
from mn.rest.operation import Action, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Ref, Text

GLOBAL_CONFIG = Resource("GlobalConfig", config_table)


class QueryGlobalConfig(Query, path="/global-configurations", reply=GLOBAL_CONFIG):
    """Query the global settings, each with its unit, default and range."""


class UpdateGlobalConfig(
    Action, path="/global-configurations/{category}/{name}/actions", reply=GLOBAL_CONFIG
):
    """Change a global setting; without a value it gets its default back."""

    category: Ref
    name: Text
    value: Text | None = None

    def locks(self) -> tuple[str, ...]:
        """One change of a setting at a time."""
        return (f"setting/{self.category}/{self.name}",)

    async def run(self, job: Job) -> Reply:
        """Write the row; the new value holds at once."""
        setting = find_setting(self.category, self.name)
        value = setting.default if self.value is None else setting.parse(self.value)
        await job.transact(change_setting, setting, value)
        await job.services.global_settings.load()
        wanted = (
            Condition("category", (), "category", Operator.EQUAL, self.category),
            Condition("name", (), "name", Operator.EQUAL, self.name),
        )
        rows = await job.services.db.read(run_query, GLOBAL_CONFIG, ParsedQuery(conditions=wanted))
        (row,) = msgspec.json.decode(rows)["inventories"]
        return {"inventory": row}
