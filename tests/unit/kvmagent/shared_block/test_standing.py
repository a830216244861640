"""How a volume group is on a host, by what sanlock says; what brings it back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvmagent.protocol_shared_block import GroupState, RecoveryStep
from kvmagent.shared_block.reports import Lockspace, Peer
from kvmagent.shared_block.standing import LOST_AFTER, REMEDIES, Seen, held_by, is_usable, judge, recovery

SPACES = st.none() | st.builds(
    Lockspace,
    st.just("lvm_g"),
    st.integers(1, 3),
    adding=st.booleans(),
    removing=st.booleans(),
    io_timeout_s=st.integers(2, 20),
    dead=st.booleans(),
    killing=st.booleans(),
    renewed_at=st.integers(0, 1000),
)
SEEN = st.builds(
    Seen,
    st.integers(1000, 1200),
    st.just(1),
    st.lists(st.just("wwid"), max_size=1),
    sanlock_answers=st.booleans(),
    lvmlockd_answers=st.booleans(),
    lockspace=SPACES,
    holds_locks=st.booleans(),
)


@given(SEEN)
def test_every_state_but_a_held_one_has_a_reason_and_a_remedy(seen: Seen) -> None:
    standing = judge(seen)
    assert (standing.state is GroupState.HELD) == (standing.reason is None)
    assert standing.state in REMEDIES


@given(SEEN)
def test_no_volume_is_worked_on_without_a_lease_that_lives(seen: Seen) -> None:
    if is_usable(judge(seen)):
        space = seen.lockspace
        assert space is not None
        assert space.host_id == seen.host_id
        assert {space.dead, space.killing, space.adding, space.removing} == {False}
        assert seen.now - space.renewed_at <= LOST_AFTER * space.io_timeout_s or not space.renewed_at
        assert not seen.missing


@given(SEEN)
def test_vms_are_ended_only_when_the_lease_is_no_longer_theirs(seen: Seen) -> None:
    steps = recovery(seen)
    if RecoveryStep.FENCE_VMS in steps:
        assert judge(seen).state in (GroupState.LEASE_LOST, GroupState.FOREIGN_LOCK)
    assert len(set(steps)) == len(steps)
    if RecoveryStep.JOIN in steps:
        assert not seen.missing
        dropped = RecoveryStep.DROP_LOCKS in steps
        assert not dropped or steps.index(RecoveryStep.DROP_LOCKS) < steps.index(RecoveryStep.JOIN)


def test_who_has_a_volume_is_said_and_until_when() -> None:
    assert held_by("v", 2, None, 100) == "v is held by host id 2, which has not been seen yet"
    assert "which is alive" in held_by("v", 2, Peer(2, 95, 10, "kvm2"), 100)
    said = held_by("v", 2, Peer(2, 100, 10, "kvm2"), 200)
    assert said == "v is held by host id 2 (kvm2), which was last seen 100 s ago, for 40 s at most"
