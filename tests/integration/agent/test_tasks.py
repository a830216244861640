import asyncio


async def test_the_agent_says_who_it_is(agent):
    async with agent.client() as mn:
        status, hello = await mn.ask("GET", "/v1/hello")
    assert status == 200
    assert hello["agent"] == "sample"
    assert hello["protocol"] == 1
    assert hello["instance"] == agent.ready["instance"]
    assert hello["hostUuid"] is None


async def test_the_same_uuid_twice_runs_once(agent, new_uuid):
    uuid = new_uuid()
    async with agent.client() as mn:
        first = await mn.task(uuid, {"command": "echo", "text": "hi"})
        second = await mn.task(uuid, b'{ "text":"hi" , "command": "echo" }')
    assert first == second == (200, {"uuid": uuid, "state": "Succeeded", "result": {"text": "hi"}})
    assert agent.ran() == ["echo hi"]


async def test_the_same_uuid_sent_many_times_at_once_runs_once(agent, new_uuid):
    uuid = new_uuid()
    async with agent.client() as mn:
        answers = await asyncio.gather(*(mn.task(uuid, {"command": "echo", "text": "hi"}) for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert {report["state"] for _, report in answers} == {"Succeeded"}
    assert agent.ran() == ["echo hi"]


async def test_another_body_under_a_known_uuid_is_refused(agent, new_uuid):
    uuid = new_uuid()
    async with agent.client() as mn:
        await mn.task(uuid, {"command": "echo", "text": "hi"})
        status, error = await mn.task(uuid, {"command": "echo", "text": "ho"})
    assert (status, error["code"]) == (409, "SYS.1006")
    assert uuid in error["details"]
    assert agent.ran() == ["echo hi"]


async def test_a_task_can_be_followed_while_it_runs(agent, new_uuid):
    uuid = new_uuid()
    async with agent.client() as mn:
        assert (await mn.task(uuid, {"command": "holdRiskily", "name": "a"}, wait=0))[1]["state"] == "Running"
        assert (await mn.ask("GET", f"/v1/tasks/{uuid}?wait=0.05"))[1]["state"] == "Running"
        waiting = asyncio.create_task(mn.ask("GET", f"/v1/tasks/{uuid}?wait=30"))
        (agent.state_dir / "go-a").touch()
        assert (await waiting)[1]["result"] == {"text": "held a"}


async def test_a_running_task_cannot_be_acknowledged(agent, new_uuid):
    uuid = new_uuid()
    async with agent.client() as mn:
        await mn.task(uuid, {"command": "holdRiskily", "name": "a"}, wait=0)
        assert (await mn.ask("DELETE", f"/v1/tasks/{uuid}"))[0] == 409


async def test_an_acknowledged_result_is_gone_also_after_a_restart(agent, new_uuid):
    uuid = new_uuid()
    async with agent.client() as mn:
        await mn.task(uuid, {"command": "echo", "text": "hi"})
        assert (await mn.ask("DELETE", f"/v1/tasks/{uuid}"))[0] == 204
        assert (await mn.ask("DELETE", f"/v1/tasks/{uuid}"))[0] == 204
        status, error = await mn.ask("GET", f"/v1/tasks/{uuid}")
        assert (status, error["code"]) == (404, "SYS.1003")
    agent.kill()
    agent.start()
    async with agent.client() as mn:
        assert (await mn.ask("GET", f"/v1/tasks/{uuid}"))[0] == 404
    assert agent.ran() == ["echo hi"]


async def test_a_result_survives_sigkill(agent, new_uuid):
    uuid = new_uuid()
    async with agent.client() as mn:
        before = await mn.task(uuid, {"command": "echo", "text": "hi"})
    agent.kill()
    agent.start()
    async with agent.client() as mn:
        assert await mn.ask("GET", f"/v1/tasks/{uuid}") == before
        assert await mn.task(uuid, {"command": "echo", "text": "hi"}) == before
        assert (await mn.task(uuid, {"command": "echo", "text": "ho"}))[0] == 409
    assert agent.ran() == ["echo hi"]


async def test_a_task_that_may_be_run_again_is_after_sigkill(agent, new_uuid, wait_until):
    uuid = new_uuid()
    async with agent.client() as mn:
        await mn.task(uuid, {"command": "holdSafely", "name": "a"}, wait=0)
        await wait_until(agent.ran, "task started")
    agent.kill()
    (agent.state_dir / "go-a").touch()
    agent.start()
    async with agent.client() as mn:
        _, report = await mn.ask("GET", f"/v1/tasks/{uuid}?wait=10")
    assert report["result"] == {"text": "held a"}
    assert agent.ran() == ["hold a", "hold a"]


async def test_a_task_that_may_not_be_run_again_is_reported_failed_after_sigkill(agent, new_uuid, wait_until):
    uuid = new_uuid()
    async with agent.client() as mn:
        await mn.task(uuid, {"command": "holdRiskily", "name": "a"}, wait=0)
        await wait_until(agent.ran, "task started")
    agent.kill()
    agent.start()
    async with agent.client() as mn:
        _, report = await mn.ask("GET", f"/v1/tasks/{uuid}?wait=10")
    assert report["state"] == "Failed"
    assert "restarted while the task ran" in report["error"]["details"]
    assert agent.ran() == ["hold a"]


async def test_a_task_that_was_waiting_for_its_turn_is_run_after_sigkill(make_agent, new_uuid, wait_until):
    agent = make_agent(settings={"running_max": 1}).start()
    first, second = new_uuid(), new_uuid()
    async with agent.client() as mn:
        await mn.task(first, {"command": "holdRiskily", "name": "a"}, wait=0)
        await wait_until(agent.ran, "first task started")
        await mn.task(second, {"command": "echo", "text": "later"}, wait=0)
    assert agent.ran() == ["hold a"]
    agent.kill()
    agent.start()
    async with agent.client() as mn:
        assert (await mn.ask("GET", f"/v1/tasks/{first}?wait=10"))[1]["state"] == "Failed"
        assert (await mn.ask("GET", f"/v1/tasks/{second}?wait=10"))[1]["state"] == "Succeeded"
    assert agent.ran() == ["hold a", "echo later"]


async def test_a_failed_task_says_why_and_a_fault_shows_no_traceback(agent, new_uuid):
    async with agent.client() as mn:
        _, proper = await mn.task(new_uuid(), {"command": "fail", "properly": True})
        _, fault = await mn.task(new_uuid(), {"command": "fail", "properly": False})
    assert proper["error"]["details"] == "the widget is stuck"
    assert proper["error"]["remedy"] == "pull it"
    assert fault["error"]["code"] == "SYS.1000"
    assert "Traceback" not in str(fault)
    assert "Traceback" in agent.logged("task failed by a fault of the agent")[0]["exception"]


async def test_wrong_requests_are_answered_with_an_error_body(agent, new_uuid):
    uuid = new_uuid()
    async with agent.client() as mn:
        wrong = {
            ("POST", f"/v1/tasks/{uuid}", b"{nonsense"): (400, "SYS.1007"),
            ("POST", f"/v1/tasks/{uuid}", b'{"command": "dance"}'): (400, "SYS.1007"),
            ("POST", f"/v1/tasks/{uuid}", b'{"command": "echo"}'): (400, "SYS.1007"),
            ("POST", "/v1/tasks/..%2Fowner", b"{}"): (400, "SYS.1007"),
            ("GET", f"/v1/tasks/{uuid}?wait=nan", None): (400, "SYS.1007"),
            ("GET", f"/v1/tasks/{uuid}?wait=-1", None): (400, "SYS.1007"),
            ("GET", f"/v1/tasks/{uuid}", None): (404, "SYS.1003"),
            ("GET", "/v1/events?since=first", None): (400, "SYS.1007"),
            ("GET", "/v2/hello", None): (404, "SYS.1007"),
            ("PUT", "/v1/hello", None): (405, "SYS.1007"),
            ("POST", f"/v1/tasks/{new_uuid()}", b"x" * 5_000_000): (413, "SYS.1007"),
        }
        for (verb, path, body), expected in wrong.items():
            status, error = await mn.ask(verb, path, body)
            assert (status, error["code"]) == expected, (verb, path)
            assert error["details"]


async def test_a_half_written_journal_file_is_put_aside(agent, new_uuid):
    good, bad = new_uuid(), new_uuid()
    async with agent.client() as mn:
        await mn.task(good, {"command": "echo", "text": "hi"})
        await mn.task(bad, {"command": "echo", "text": "hi"})
    agent.kill()
    tasks = agent.state_dir / "tasks"
    (tasks / f"{bad}.json").write_bytes((tasks / f"{bad}.json").read_bytes()[:20])
    (tasks / "x.json.tmp").write_bytes(b"leftover")
    agent.start()
    async with agent.client() as mn:
        assert (await mn.ask("GET", f"/v1/tasks/{good}"))[1]["state"] == "Succeeded"
        assert (await mn.ask("GET", f"/v1/tasks/{bad}"))[0] == 404
    assert len(agent.logged("task file unreadable, put aside")) == 1
    assert [file.name for file in (tasks / "quarantine").iterdir()] == [f"{bad}.json"]
    assert not list(tasks.glob("*.tmp"))
