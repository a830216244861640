import asyncio
import uuid

import pytest

from agentkit.errors import HardpointError
from agentkit.events import EventHub
from agentkit.journal import KEEP_S, Journal, body_digest, succeeded, valid_uuid
from agentkit.tasks import TaskDesk
from agentkit.wire import Command, TaskState, Wire


class Reply(Wire):
    text: str


class Say(Command[Reply], tag="say"):
    secret: str


async def say(_context, command):
    return Reply(text="said")


async def finished(journal, name):
    entry = await journal.accept(name, "d", b'{"a": 1}', started=True)
    await journal.finish(entry, succeeded(name, {"x": 1}))


async def test_results_that_nobody_fetched_are_pruned_after_seven_days(tmp_path):
    now = [1000.0]
    journal = Journal(tmp_path, clock=lambda: now[0])
    await journal.open()
    old, young, running = (uuid.uuid4().hex for _ in range(3))
    await finished(journal, old)
    await journal.accept(running, "d", b"{}", started=True)
    now[0] += KEEP_S - 1
    await finished(journal, young)
    assert await journal.prune() == 0
    now[0] += 2
    assert await journal.prune() == 1
    assert await journal.report(old) is None
    assert (await journal.report(young)).result == {"x": 1}
    assert (await journal.report(running)).state is TaskState.RUNNING
    journal.close()


async def test_old_results_are_removed_at_the_start_too(tmp_path):
    journal = Journal(tmp_path, clock=lambda: 1000.0)
    await journal.open()
    await finished(journal, uuid.uuid4().hex)
    journal.close()
    later = Journal(tmp_path, clock=lambda: 2000.0 + KEEP_S)
    assert await later.open() == []
    assert not list(tmp_path.glob("*.json"))
    later.close()


async def test_a_file_under_a_wrong_name_is_put_aside(tmp_path):
    journal = Journal(tmp_path)
    await journal.open()
    name = uuid.uuid4().hex
    await finished(journal, name)
    journal.close()
    (tmp_path / f"{name}.json").rename(tmp_path / f"{uuid.uuid4().hex}.json")
    again = Journal(tmp_path)
    await again.open()
    assert len(list((tmp_path / "quarantine").iterdir())) == 1
    again.close()


async def test_the_body_of_a_finished_task_is_not_kept(tmp_path):
    journal = Journal(tmp_path)
    desk = TaskDesk(journal, EventHub("i"), None, {Say: say})
    await desk.open()
    name = uuid.uuid4().hex
    report = await desk.submit(name, b'{"command": "say", "secret": "hush"}', 10)
    assert report.state is TaskState.SUCCEEDED
    assert b"hush" not in (tmp_path / f"{name}.json").read_bytes()
    assert (tmp_path / f"{name}.json").stat().st_mode & 0o077 == 0
    journal.close()


async def test_a_task_is_not_acknowledged_when_the_disk_refuses_it(tmp_path):
    journal = Journal(tmp_path / "tasks")
    desk = TaskDesk(journal, EventHub("i"), None, {Say: say})
    await desk.open()
    (tmp_path / "tasks").rename(tmp_path / "elsewhere")
    name = uuid.uuid4().hex
    with pytest.raises(HardpointError, match="cannot be written to the journal"):
        await desk.submit(name, b'{"command": "say", "secret": ""}', 1)
    (tmp_path / "elsewhere").rename(tmp_path / "tasks")
    assert (await desk.submit(name, b'{"command": "say", "secret": ""}', 10)).state is TaskState.SUCCEEDED
    journal.close()


async def test_callers_that_wait_for_an_acceptance_that_fails_do_not_run_the_task_twice(tmp_path):
    runs = []

    async def count(_context, _command):
        runs.append(1)
        return Reply(text="done")

    class Flaky(Journal):
        refusals = 1

        def _write(self, entry):
            if self.refusals:
                self.refusals -= 1
                raise OSError("disk full")
            super()._write(entry)

    journal = Flaky(tmp_path)
    desk = TaskDesk(journal, EventHub("i"), None, {Say: count})
    await desk.open()
    name = uuid.uuid4().hex
    asks = [desk.submit(name, b'{"command": "say", "secret": ""}', 10) for _ in range(5)]
    answers = await asyncio.gather(*asks, return_exceptions=True)
    assert [isinstance(answer, HardpointError) for answer in answers].count(True) == 1
    assert runs == [1]
    journal.close()


async def test_a_task_ends_only_when_its_result_is_on_disk(tmp_path):
    went = asyncio.Event()

    async def move_journal(_context, _command):
        (tmp_path / "tasks").rename(tmp_path / "elsewhere")
        went.set()
        return Reply(text="done")

    journal = Journal(tmp_path / "tasks")
    desk = TaskDesk(journal, EventHub("i"), None, {Say: move_journal})
    await desk.open()
    name = uuid.uuid4().hex
    report = await desk.submit(name, b'{"command": "say", "secret": ""}', 0.3)
    await went.wait()
    assert report.state is TaskState.RUNNING
    (tmp_path / "elsewhere").rename(tmp_path / "tasks")
    assert (await desk.follow(name, 10)).state is TaskState.SUCCEEDED
    journal.close()


def test_a_command_declared_re_runnable_without_handler_is_refused_at_once(tmp_path):
    with pytest.raises(TypeError, match="no handler"):
        TaskDesk(Journal(tmp_path), EventHub("i"), None, {}, rerunnable={Say})


def test_the_digest_of_a_body_does_not_hang_on_its_spelling():
    assert body_digest(b'{"a": 1, "b": [2]}') == body_digest(b'{"b":[2],"a":1}')
    assert body_digest(b'{"a": 1}') != body_digest(b'{"a": 2}')


def test_only_lower_case_uuids_are_names_of_files():
    assert valid_uuid("0" * 32)
    assert valid_uuid("00000000-0000-0000-0000-000000000000")
    for name in ("", "../x", "0" * 31, "A" * 32, "0" * 32 + "\n"):
        assert not valid_uuid(name)
