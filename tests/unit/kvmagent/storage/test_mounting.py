from __future__ import annotations

import pytest

from agentkit.errors import HardpointError
from kvmagent.machine.mounts import parse_mountinfo
from kvmagent.storage.mounting import (
    check_options,
    check_shared,
    holder_of,
    is_export,
    mount_argv,
    mounted_at,
)

MOUNTS = parse_mountinfo(
    [
        "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw",
        "30 22 0:30 / /run rw,nosuid - tmpfs tmpfs rw",
        "60 22 0:50 / /mnt/with\\040blank rw - nfs4 [fd00::1]:/srv/nfs rw,vers=4.2,addr=fd00::1",
        "61 22 0:51 / /opt/zstack/nfsprimarystorage/prim-a rw - nfs4 10.0.0.1:/srv/nfs/ rw,vers=4.2",
        "62 22 0:52 / /data rw - gfs2 /dev/mapper/shared rw",
        "63 62 0:53 / /data/inner rw - xfs /dev/sdb rw",
    ]
)


def test_a_path_is_on_the_innermost_mount_above_it() -> None:
    found = [holder_of(MOUNTS, path) for path in ("/data/inner/x", "/data/innermost", "/data", "/database")]
    assert [mount.kind for mount in found if mount] == ["xfs", "gfs2", "gfs2", "ext4"]


@pytest.mark.parametrize("path", ["/data/inner", "/database", "/run/smp", "/"])
def test_a_file_system_of_one_host_is_refused_for_a_shared_directory(path: str) -> None:
    with pytest.raises(HardpointError, match="of this host alone"):
        check_shared(holder_of(MOUNTS, path), path)


@pytest.mark.parametrize("path", ["/data/smp", "/mnt/with blank/x"])
def test_a_shared_file_system_is_taken(path: str) -> None:
    check_shared(holder_of(MOUNTS, path), path)


def test_an_export_is_found_whatever_its_slashes_and_brackets() -> None:
    mount = mounted_at(MOUNTS, "/opt/zstack/nfsprimarystorage/prim-a")
    assert mount is not None
    assert is_export(mount, "10.0.0.1:/srv/nfs")
    assert not is_export(mount, "10.0.0.2:/srv/nfs")
    other = mounted_at(MOUNTS, "/mnt/with blank")
    assert other is not None
    assert is_export(other, "[fd00::1]:/srv/nfs/")
    assert mounted_at(MOUNTS, "/nowhere") is None


def test_an_export_is_mounted_without_devices_and_with_the_options_that_are_given() -> None:
    assert mount_argv("h:/e", "/m", "") == ["mount", "-t", "nfs4", "-o", "nosuid,nodev", "h:/e", "/m"]
    assert mount_argv("h:/e", "/m", "vers=4.1, timeo=50")[4] == "vers=4.1,timeo=50,nosuid,nodev"


@pytest.mark.parametrize(
    "options", ["nolock", "vers=3,local_lock=all", "ro", "suid", "$(x)", "a;b", "vers=4 x"]
)
def test_options_that_harm_are_refused_by_name(options: str) -> None:
    with pytest.raises(HardpointError) as refused:
        check_options(options)
    assert options.split(",")[-1].partition("=")[0] in refused.value.details
