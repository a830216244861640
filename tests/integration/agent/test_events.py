async def publish(mn, uuid, number, **more):
    await mn.task(uuid, {"command": "publish", "number": number, **more})


async def test_a_stream_begins_with_a_reset_for_who_knows_no_instance(agent):
    async with agent.client() as mn, mn.events() as next_event:
        event = await next_event()
    assert (event["seq"], event["instance"], event["kind"]) == (0, agent.ready["instance"], "reset")


async def test_a_stream_resumes_after_the_number_given(agent, new_uuid):
    instance = agent.ready["instance"]
    async with agent.client() as mn:
        await publish(mn, new_uuid(), 5)
        async with mn.events(instance, since=3) as next_event:
            assert (await next_event())["kind"] == "tick"
            events = [await next_event() for _ in range(3)]
    assert [event["seq"] for event in events] == [4, 5, 6]
    assert [event["kind"] for event in events] == ["device", "device", "task"]
    assert events[0]["data"]["number"] == 3
    assert events[2]["data"]["state"] == "Succeeded"


async def test_a_stream_is_reset_when_the_agent_is_a_new_instance(agent, new_uuid):
    old = agent.ready["instance"]
    async with agent.client() as mn:
        await publish(mn, new_uuid(), 2)
    agent.kill()
    agent.start()
    async with agent.client() as mn, mn.events(old, since=2) as next_event:
        event = await next_event()
    assert (event["kind"], event["seq"]) == ("reset", 0)
    assert event["instance"] != old


async def test_a_tick_arrives_and_repeats_the_last_number(agent, new_uuid):
    async with agent.client() as mn:
        await publish(mn, new_uuid(), 1)
        async with mn.events(agent.ready["instance"], since=2, tick=0.1) as next_event:
            assert [(await next_event())["kind"] for _ in range(3)] == ["tick"] * 3
            assert (await next_event())["seq"] == 2


async def test_events_come_while_the_stream_is_open(agent, new_uuid):
    async with agent.client() as mn, mn.events() as next_event:
        await next_event()
        await publish(mn, new_uuid(), 1)
        event = await next_event()
        while event["kind"] == "tick":
            event = await next_event()
    assert (event["kind"], event["seq"]) == ("device", 1)


async def test_a_stream_ends_when_the_agent_stops(agent):
    async with agent.client() as mn, mn.events() as next_event:
        await next_event()
        agent.terminate()
        event = await next_event()
        while event["kind"] == "tick":
            event = await next_event()
    assert event["kind"] == "end"
    assert agent.exit_code() == 0


async def test_the_first_event_says_who_answers(agent):
    async with agent.client() as mn, mn.events() as next_event:
        _, hello = await mn.ask("GET", "/v1/hello")
        greeting = (await next_event())["data"]
    assert {**greeting, "time": None} == {**hello, "time": None}


async def test_a_tick_that_is_too_short_or_no_number_is_refused(agent):
    async with agent.client() as mn:
        for tick in ["0.001", "nan", "soon", "3600"]:
            status, error = await mn.ask("GET", f"/v1/events?tick={tick}")
            assert (status, error["code"]) == (400, "SYS.1007"), tick
            assert "0.05 to 60" in error["remedy"]
