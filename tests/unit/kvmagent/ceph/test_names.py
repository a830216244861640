"""How images are called in a Ceph cluster, and the files that make a host a client of it."""

import pytest

from kvmagent.ceph.client import configuration, fsid_of, keyring, keyring_keys, with_key
from kvmagent.protocol_ceph import (
    OWN_IMAGE,
    CephCluster,
    CephMon,
    RbdPlace,
    backup_name,
    backup_place,
    in_pool,
    rbd_place,
)

VOLUME, OTHER = "a" * 32, "b" * 32
CLUSTER = CephCluster(
    fsid="f",
    mons=[CephMon(address="192.0.2.1", port=6789), CephMon(address="2001:db8::1", port=6789)],
    user="hosts",
    root_pool="root",
    data_pool="data",
    cache_pool="cache",
    more_pools=["fast", "data"],
)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (f"rootVolumes/vol-{VOLUME}/{VOLUME}.raw", RbdPlace("root", VOLUME)),
        (f"dataVolumes/vol-{VOLUME}/{VOLUME}.raw.partial", RbdPlace("data", f"{VOLUME}.partial")),
        (f"dataVolumes/vol-{VOLUME}/snapshots/{OTHER}.raw", RbdPlace("data", f"{VOLUME}.{OTHER}")),
        (f"rootVolumes/vol-{VOLUME}/{OTHER}.raw", RbdPlace("root", f"{VOLUME}.{OTHER}")),
        (f"pools/fast/dataVolumes/vol-{VOLUME}/{VOLUME}.raw", RbdPlace("fast", VOLUME)),
        (f"rootVolumes/vol-{VOLUME}", RbdPlace("root", VOLUME, is_folder=True)),
        (f"imagecache/template/{VOLUME}", RbdPlace("cache", VOLUME, is_folder=True)),
        (
            f"imagecache/template/{VOLUME}/{VOLUME}.raw.source.partial",
            RbdPlace("cache", f"{VOLUME}.source.partial"),
        ),
    ],
)
def test_an_image_has_its_place_by_its_name(name: str, place: RbdPlace) -> None:
    assert rbd_place(CLUSTER, name) == place
    assert OWN_IMAGE.fullmatch(place.image)


@pytest.mark.parametrize(
    "name",
    [
        f"rootVolumes/vol-{VOLUME}/{VOLUME}.qcow2",
        f"pools/somebodys/dataVolumes/vol-{VOLUME}/{VOLUME}.raw",
        f"pools/fast/imagecache/template/{VOLUME}",
        "rootVolumes",
        "rootVolumes/vol-x/x.raw",
        f"rootVolumes/vol-{VOLUME}/{VOLUME}.raw\n",
    ],
)
def test_no_other_name_is_one_of_an_image(name: str) -> None:
    assert rbd_place(CLUSTER, name) is None


def test_a_folder_has_the_images_whose_names_go_on_with_a_dot() -> None:
    folder = RbdPlace("root", VOLUME, is_folder=True)
    assert [folder.has(image) for image in (VOLUME, f"{VOLUME}.{OTHER}", VOLUME + "x", OTHER)] == [
        True,
        True,
        False,
        False,
    ]
    assert not RbdPlace("root", VOLUME).has(f"{VOLUME}.{OTHER}")


def test_each_pool_is_named_once_and_a_tag_is_part_of_the_path() -> None:
    assert CLUSTER.pools == ["root", "data", "cache", "fast"]
    assert in_pool("dataVolumes/x", "fast") == "pools/fast/dataVolumes/x"
    assert in_pool("dataVolumes/x", None) == "dataVolumes/x"


def test_a_client_waits_for_a_cluster_for_a_while_only_and_has_its_key_in_another_file() -> None:
    text = configuration(CLUSTER, "/run/keyring")
    assert "mon_host = 192.0.2.1:6789,[2001:db8::1]:6789\n" in text
    assert "keyring = /run/keyring\n" in text
    assert "rados_osd_op_timeout = 40\n" in text
    assert keyring_keys(keyring({"hosts": "AQ==", "hosts-2": "BQ=="})) == {"hosts": "AQ==", "hosts-2": "BQ=="}
    assert keyring_keys("[client.hosts]\n") == {}
    assert (fsid_of(b'{"fsid":"f"}\n'), fsid_of(b"f\n")) == ("f", "f")


def test_a_host_that_becomes_another_client_keeps_the_key_of_the_one_before() -> None:
    one = with_key({}, "a", "1")
    two = with_key(one, "b", "2")
    assert list(two.items()) == [("b", "2"), ("a", "1")]
    assert list(with_key(two, "c", "3").items()) == [("c", "3"), ("b", "2")]
    assert with_key(two, "b", "2") == {"b": "2"}, "told once more, it is that one only"


def test_an_image_of_a_backup_storage_can_be_stood_on_and_nothing_else() -> None:
    name = backup_name("images", VOLUME)
    assert backup_place(name) == RbdPlace("images", VOLUME)
    assert rbd_place(CLUSTER, name) is None
    assert backup_place(f"imagecache/template/{VOLUME}") is None
    assert backup_place(f"backups/a/b/{VOLUME}") is None
