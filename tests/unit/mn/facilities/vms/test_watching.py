"""What a VM's row ought to say when its host shows it so."""

import pytest

from kvmagent.protocol_vms import VmSeen, VmState
from mn.facilities.vms.tables import State
from mn.facilities.vms.watching import Believed, Found, after_move, what_is, what_is_left

UUID, HERE, ELSEWHERE = "a" * 32, "h" * 32, "e" * 32


def believed(state: State, host: str | None) -> Believed:
    return Believed(UUID, state, host, 1)


def shown(state: VmState = VmState.RUNNING) -> VmSeen:
    return VmSeen(
        uuid=UUID, state=state, cpus=1, memory_bytes=1, console_address=None, console_port=None, disks=[]
    )


@pytest.mark.parametrize("state", [State.RUNNING, State.PAUSED, State.UNKNOWN])
def test_a_vm_that_is_gone_from_its_host_is_stopped(state: State) -> None:
    assert what_is(believed(state, HERE), HERE, None) == Found(State.STOPPED, None)


def test_an_unknown_vm_that_is_there_runs() -> None:
    assert what_is(believed(State.UNKNOWN, HERE), HERE, shown()) == Found(State.RUNNING, HERE)


def test_a_paused_vm_is_paused() -> None:
    found = what_is(believed(State.RUNNING, HERE), HERE, shown(VmState.PAUSED))
    assert found == Found(State.PAUSED, HERE)


def test_what_is_so_already_is_not_written() -> None:
    assert what_is(believed(State.RUNNING, HERE), HERE, shown()) is None
    assert what_is(believed(State.STOPPED, None), HERE, None) is None


def test_a_stopped_vm_that_runs_somewhere_runs_there() -> None:
    assert what_is(believed(State.STOPPED, None), HERE, shown()) == Found(State.RUNNING, HERE)


@pytest.mark.parametrize("seen", [None, shown()])
def test_a_host_says_nothing_of_a_vm_that_is_on_another(seen: VmSeen | None) -> None:
    assert what_is(believed(State.RUNNING, ELSEWHERE), HERE, seen) is None


@pytest.mark.parametrize("seen", [None, shown()])
def test_a_destroyed_vm_stays_destroyed(seen: VmSeen | None) -> None:
    assert what_is(believed(State.DESTROYED, None), HERE, seen) is None


@pytest.mark.parametrize("state", [State.STARTING, State.STOPPING, State.REBOOTING])
def test_a_job_decides_until_it_has_failed(state: State) -> None:
    vm = believed(state, HERE)
    assert what_is(vm, HERE, None) is None
    assert what_is_left(vm, HERE, None) == Found(State.STOPPED, None)
    assert what_is_left(vm, HERE, shown()) == Found(State.RUNNING, HERE)


GONE = Found(State.STOPPED, None)


@pytest.mark.parametrize(
    ("source", "target", "found"),
    [
        (State.RUNNING, GONE, HERE),
        (State.RUNNING, Found(State.PAUSED, ELSEWHERE), HERE),
        (State.RUNNING, Found(State.UNKNOWN, ELSEWHERE), HERE),
        (State.RUNNING, Found(State.RUNNING, ELSEWHERE), ELSEWHERE),
        (State.PAUSED, Found(State.RUNNING, ELSEWHERE), ELSEWHERE),
        (State.UNKNOWN, Found(State.PAUSED, ELSEWHERE), HERE),
        (State.PAUSED, Found(State.PAUSED, ELSEWHERE), HERE),
        (State.UNKNOWN, Found(State.UNKNOWN, ELSEWHERE), HERE),
        (State.UNKNOWN, GONE, HERE),
        (State.UNKNOWN, Found(State.RUNNING, ELSEWHERE), ELSEWHERE),
        (None, Found(State.RUNNING, ELSEWHERE), ELSEWHERE),
        (None, Found(State.UNKNOWN, ELSEWHERE), ELSEWHERE),
        (None, GONE, None),
    ],
)
def test_a_vm_whose_move_has_failed_is_where_both_hosts_say(
    source: State | None, target: Found, found: str | None
) -> None:
    assert after_move(Found(source, HERE) if source else GONE, target).host_uuid == found


@pytest.mark.parametrize(
    ("source", "target", "state"),
    [
        (State.PAUSED, GONE, State.PAUSED),
        (State.PAUSED, Found(State.PAUSED, ELSEWHERE), State.UNKNOWN),
        (State.PAUSED, Found(State.UNKNOWN, ELSEWHERE), State.UNKNOWN),
        (State.UNKNOWN, Found(State.PAUSED, ELSEWHERE), State.UNKNOWN),
    ],
)
def test_one_that_may_have_left_and_may_not_have_come_is_unknown(
    source: State, target: Found, state: State
) -> None:
    assert after_move(Found(source, HERE), target) == Found(state, HERE)
