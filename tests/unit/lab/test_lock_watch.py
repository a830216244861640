from tests.lab.lock_watch import ALONE, SHARED, Sample, conflicts, locks

LV = "PoN736-yVIM-lvpL-0UvI-21Vc-YREd-dJpI7h"
SPACE = "lvm_" + "8" * 32


def samples(start, *held):
    return [
        Sample(start + 2 * n, start + 2 * n + 0.5, {LV: how} if how else {}) for n, how in enumerate(held)
    ]


def test_locks_are_read_from_what_sanlock_says():
    said = f"""daemon 1.kvm1
p 730 lvmlockd
s {SPACE}:2:/dev/mapper/x-lvmlock:0
r {SPACE}:VGLK:/dev/mapper/x-lvmlock:69206016:SH p 730
r {SPACE}:{LV}:/dev/mapper/x-lvmlock:72351744:3 p 730
"""
    assert locks(said.splitlines()) == {LV: ALONE}
    for how in ("ADD", "REM"):
        assert locks([f"r {SPACE}:{LV}:/dev/mapper/x-lvmlock:72351744:0 p 730 {how}\n"]) == {}
    assert locks([f"r {SPACE}:{LV}:/dev/mapper/x-lvmlock:72351744:SH p 730"]) == {LV: SHARED}


def test_what_is_handed_over_or_shared_is_no_conflict():
    one = samples(0, ALONE, ALONE, ALONE, None, None, None)
    assert conflicts(one, samples(0.3, None, None, None, ALONE, ALONE, ALONE)) == []
    assert conflicts(one, samples(0.3, None, None, ALONE, ALONE, ALONE, ALONE)) == [], "lines may be late"
    both = samples(0, SHARED, SHARED, SHARED)
    assert conflicts(both, both) == []


def test_what_one_has_alone_and_the_other_too_is_told():
    one = samples(0, None, ALONE, ALONE, ALONE, ALONE)
    for how in (ALONE, SHARED):
        other = samples(1, None, None, how, None, None)
        assert conflicts(one, other) == [f"{LV} at 5 s"]
        assert conflicts(other, one) == [f"{LV} at 5 s"]
    assert conflicts(one, samples(1, None, None, None)) == []
