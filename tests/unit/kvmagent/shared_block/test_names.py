"""How images are called as logical volumes, and how large those are."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import HardpointError
from kvmagent.shared_block.names import (
    EXTENT,
    PARTIAL_TAG,
    first_size,
    full_size,
    lv_name,
    next_size,
    path_tag,
    read_volume,
    trash_tag,
    trashed_lv,
    under,
)

UUIDS = st.text("0123456789abcdef", min_size=32, max_size=32)
SIZES = st.integers(1, 2**44)


@given(UUIDS, UUIDS)
def test_a_volume_is_called_by_its_image_whole_or_partial(storage: str, uuid: str) -> None:
    name = f"rootVolumes/vol-{uuid}/{uuid}.qcow2"
    assert lv_name(storage, name) == lv_name(storage, f"{name}.partial") == uuid
    volume = read_volume(uuid, 1, [path_tag(f"{name}.partial"), PARTIAL_TAG])
    assert volume is not None
    assert (volume.name, volume.partial, volume.trash) == (name, True, None)


@pytest.mark.parametrize("name", ["", "/x", "../" + "a" * 32, "a/lvmlock", "a" * 31, "a/./" + "a" * 32])
def test_what_is_no_image_has_no_volume(name: str) -> None:
    with pytest.raises(HardpointError):
        lv_name("s", name)


@given(UUIDS, UUIDS, st.integers(0, 2**40))
def test_what_is_in_the_trash_is_in_no_folder(uuid: str, folder: str, now: int) -> None:
    name = f"rootVolumes/vol-{uuid}/{uuid}.qcow2"
    kept = read_volume(uuid, 1, [path_tag(name)])
    gone = read_volume(trashed_lv(uuid, folder), 1, [path_tag(name), trash_tag(folder, now)])
    assert kept is not None
    assert gone is not None
    assert (gone.trash, gone.trashed_at) == (folder, now)
    assert under([kept, gone], f"rootVolumes/vol-{uuid}") == [kept]
    assert under([kept, gone], f"rootVolumes/vol-{uuid[:-1]}") == []
    assert under([kept], f"{kept.name}.partial") == [], "it is whole"
    coming = dataclasses.replace(kept, partial=True)
    assert under([coming], f"{kept.name}.partial") == under([coming], kept.name) == [coming]
    assert read_volume("lvmlock", 1, []) is None


@given(SIZES, st.none() | SIZES, st.sampled_from(["qcow2", "raw"]), st.booleans(), st.integers(1, 2**40))
def test_a_new_volume_holds_what_comes_and_is_never_larger_than_it_may_become(
    size: int, length: int | None, disk_format: str, thin: bool, step: int
) -> None:
    first = first_size(size, length, disk_format, thin=thin, step=step)
    assert first % EXTENT == 0
    assert first >= (length or 1)
    assert first <= max(full_size(size, disk_format), (length or 0) + EXTENT)
    if not thin or disk_format == "raw":
        assert first >= size


@given(SIZES, st.integers(2 * EXTENT, 2**34), st.data())
def test_a_thin_volume_grows_in_time_and_comes_to_an_end(size: int, step: int, data: st.DataObject) -> None:
    full = full_size(size, "qcow2")
    now = first_size(size, None, "qcow2", thin=True, step=step)
    for _ in range(20):
        used = data.draw(st.integers(0, now))
        larger = next_size(now, used, full, step)
        if larger is None:
            assert now == full or now - used > step // 2
        else:
            assert now < larger <= full
            now = larger
