"""Plans for passing PCI functions through: on machines that are made up, and on generated ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmagent.passthrough.plan import VFIO, Function, Machine, after, plan, viable

VM, OTHER_VM = "a" * 32, "b" * 32
NIC = Function("0000:01:00.0", "020000", "e1000e", "/g/1", bus="0000:00:01.0")
VIDEO = Function("0000:04:00.0", "030000", "bochs-drm", "/g/4", bus="0000:00:04.0", resets=False)
SOUND = Function("0000:04:00.1", "040300", "snd_hda_intel", "/g/4", bus="0000:00:04.0", resets=False)
PORT = Function("0000:00:04.0", "060400", "pcieport", "/g/9")


def machine(*functions: Function, iommu: bool = True) -> Machine:
    return Machine(iommu, {function.address: function for function in functions})


def but(function: Function, **changes: Any) -> Function:
    return Function(**{name: getattr(function, name) for name in Function.__slots__} | changes)


def codes(of: Machine, *addresses: str, vm: str | None = VM, **more: bool) -> list[str]:
    return [reason.code for reason in plan(of, addresses, vm, **more).reasons]


def test_a_function_in_a_group_of_its_own_leaves_its_driver() -> None:
    planned = plan(machine(NIC, VIDEO, SOUND), [NIC.address], VM)
    assert [(step.address, step.before, step.after) for step in planned.steps] == [
        (NIC.address, "e1000e", VFIO)
    ]
    assert [(step.before, step.after) for step in planned.undo] == [(VFIO, "e1000e")]


def test_functions_of_one_group_only_go_together() -> None:
    card = machine(VIDEO, SOUND)
    alone = plan(card, [VIDEO.address], VM)
    assert [reason.code for reason in alone.reasons] == ["group-shared", "no-reset"]
    assert "0000:04:00.1, which driver snd_hda_intel has" in alone.reasons[0].text
    assert alone.group == (VIDEO.address, SOUND.address)
    assert len(plan(card, alone.group, VM).steps) == 2


@pytest.mark.parametrize(
    ("functions", "wanted", "expected"),
    [
        ([but(NIC, boot_critical="root file system on /dev/sda1")], NIC, ["boot-critical"]),
        ([but(NIC, holder=OTHER_VM)], NIC, ["claimed"]),
        ([but(NIC, group=None)], NIC, ["no-group"]),
        ([but(NIC, bus="", resets=False)], NIC, ["no-reset"]),
        ([but(NIC, virtual_functions=2)], NIC, ["virtual-functions"]),
        ([PORT], PORT, ["bridge"]),
        ([], NIC, ["gone"]),
        ([NIC, but(SOUND, group="/g/1", boot_critical="swap on /dev/sdb")], NIC, ["group-in-use"]),
        ([NIC, but(SOUND, group="/g/1", holder=OTHER_VM)], NIC, ["group-in-use"]),
        ([NIC, but(SOUND, group="/g/1", holder=VM)], NIC, []),
        ([NIC, but(PORT, group="/g/1")], NIC, []),
        ([NIC, but(PORT, group="/g/1", class_code="060100", driver="lpc_ich")], NIC, ["bridge-in-group"]),
    ],
)
def test_what_stands_against_it_is_said(
    functions: list[Function], wanted: Function, expected: list[str]
) -> None:
    assert codes(machine(*functions), wanted.address) == expected


def test_without_an_iommu_nothing_goes() -> None:
    assert codes(machine(but(NIC, group=None), iommu=False), NIC.address) == ["iommu"]


def test_an_administrator_may_take_a_device_that_cannot_be_reset() -> None:
    stuck = machine(but(NIC, bus="", resets=False))
    assert codes(stuck, NIC.address, without_reset=True) == []


def test_a_function_that_the_vm_has_already_needs_nothing() -> None:
    assert plan(machine(but(NIC, driver=VFIO, holder=VM)), [NIC.address], VM).steps == ()


ADDRESSES = [f"0000:0{bus}:00.{number}" for bus in range(1, 5) for number in range(3)]


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    functions = {}
    for address in draw(st.sets(st.sampled_from(ADDRESSES), min_size=1)):
        functions[address] = Function(
            address=address,
            class_code=draw(st.sampled_from(["020000", "030000", "040300", "060400", "060100", "010802"])),
            driver=draw(st.sampled_from([None, "e1000e", "nvme", "pcieport", VFIO])),
            group=draw(st.sampled_from(["/g/1", "/g/2", "/g/3", "/g/4", None])),
            bus=draw(st.sampled_from(["", address[:10]])),
            resets=draw(st.booleans()),
            boot_critical=draw(st.sampled_from([None, None, "root file system on /dev/sda1"])),
            holder=draw(st.sampled_from([None, None, VM, OTHER_VM])),
            virtual_functions=draw(st.sampled_from([0, 0, 0, 2])),
        )
    return Machine(draw(st.sampled_from([True, True, True, False])), functions)


@given(machines(), st.sets(st.sampled_from(ADDRESSES), min_size=1, max_size=4), st.booleans())
def test_no_plan_touches_what_the_host_lives_on_and_each_can_be_undone(
    before: Machine, wanted: set[str], without_reset: bool
) -> None:
    planned = plan(before, sorted(wanted), VM, without_reset=without_reset)
    assert not (planned.steps and planned.reasons)
    touched = {step.address for step in planned.steps}
    assert touched <= wanted
    for address in touched:
        function = before.functions[address]
        assert function.boot_critical is None
        assert function.holder in (None, VM)
        assert not function.is_bridge
    assert after(after(before, planned.steps), planned.undo) == before
    if planned.steps:
        bound = after(before, planned.steps)
        held = [f.address for f in bound.functions.values() if f.holder == VM]
        ready = after(bound, plan(bound, [*held], VM).steps) if held else bound
        # What another claim of the same VM holds is bound by that claim.
        if all(ready.functions[address].driver == VFIO for address in held):
            assert all(viable(ready, address) for address in touched)


@given(machines(), st.sampled_from(ADDRESSES))
def test_a_function_that_may_go_alone_is_its_whole_group(before: Machine, address: str) -> None:
    planned = plan(before, [address], None)
    if not planned.reasons:
        assert planned.group == (address,)
        assert codes(before, *planned.group, vm=None) == []
