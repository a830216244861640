"""What is wrong is listed as any other resource, with what mends it."""

from __future__ import annotations

from tests.contract.conftest import World
from tests.contract.params import new_uuid
from tests.helpers import wait_until


def test_an_iommu_that_is_wanted_is_an_issue_until_it_is_not(world: World) -> None:
    path = f"/pci-device/hosts/{world.host['uuid']}/actions"
    mine = ("code=IOMMU.INACTIVE", f"resourceUuid={world.host['uuid']}")
    world.admin.run("PUT", path, {"updateHostIommuState": {"state": "Enabled"}})
    wait_until(lambda: bool(world.admin.query("/issues", *mine)), "the issue", 60)
    (issue,) = world.admin.query("/issues", *mine)
    assert (issue["severity"], issue["resourceType"]) == ("Warning", "Host")
    assert "Inactive" in issue["evidence"]
    assert "reboot" in issue["remedy"]
    assert world.admin.query(f"/issues/{issue['uuid']}") == [issue]
    world.admin.run("PUT", path, {"updateHostIommuState": {"state": "Disabled"}})
    wait_until(lambda: world.admin.query("/issues", *mine) == [], "the end of the issue", 60)


def test_issues_take_the_query_language_and_refuse_what_is_none(world: World) -> None:
    assert world.admin.get("/issues", count="true").body.keys() == {"total"}
    assert world.admin.get("/issues", "since>2017-01-06", sort="-since", fields="code,since").status == 200
    refused = world.admin.get("/issues", "remedies=x")
    assert (refused.status, refused.error["code"]) == (400, "SYS.1007")
    assert world.admin.query(f"/issues/{new_uuid()}") == []


def test_issues_are_only_looked_at(world: World) -> None:
    for verb in ("POST", "PUT", "DELETE"):
        assert world.admin.call(verb, "/issues", {}).status == 405
