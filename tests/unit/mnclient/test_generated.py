"""What is generated is as the registry says; `make describe` writes it anew."""

from __future__ import annotations

import json
import subprocess
import sys

from mnclient.description import SHIPPED, shipped
from scripts.generate_sdk import REPOSITORY, actions, inventories


def test_the_shipped_description_is_that_of_the_registry() -> None:
    argv = [sys.executable, "-m", "mn", "describe"]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout
    assert json.loads(printed) == json.loads(SHIPPED.read_text()), "run `make describe`"
    assert printed == SHIPPED.read_text(), "run `make describe`"


def test_actions_and_inventories_are_those_of_the_shipped_description() -> None:
    assert (REPOSITORY / "mnclient" / "actions.py").read_text() == actions(shipped()), "run `make describe`"
    assert (REPOSITORY / "mnclient" / "inventories.py").read_text() == inventories(shipped())


def test_every_operation_and_resource_is_described_in_words() -> None:
    for operation in shipped().operations.values():
        assert operation.description, operation.name
        assert operation.paths, operation.name
    assert {"Zone", "Cluster", "Host", "PciDevice"} <= set(shipped().resources)
