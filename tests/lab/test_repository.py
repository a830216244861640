"""The package repository in the lab."""

from __future__ import annotations

from tests.lab.lab import Lab

APT_TIMEOUT_S = 180.0


def test_a_bare_host_installs_and_upgrades_from_it(lab: Lab) -> None:
    fresh, repository = lab.guest("fresh"), lab.repository
    print_version = "#!/bin/sh\necho {}\n"
    repository.make("lab-tool", "1.0", files={"/usr/bin/lab-tool": print_version.format("1.0")})
    fresh.run("apt-get update", APT_TIMEOUT_S)
    fresh.run("apt-get install -y lab-tool less", APT_TIMEOUT_S)  # one made now, one of the image's
    assert fresh.run("lab-tool").strip() == "1.0"
    assert "/lab-tool_1.0_all.deb" in "".join(repository.requests)

    repository.make(
        "lab-tool", "1.1", files={"/usr/bin/lab-tool": print_version.format("1.1")}, asks_for_reboot=True
    )
    fresh.run("apt-get update", APT_TIMEOUT_S)
    fresh.run("apt-get upgrade -y", APT_TIMEOUT_S)
    assert fresh.run("lab-tool").strip() == "1.1"
    assert fresh.run("cat /run/reboot-required.pkgs").strip() == "lab-tool"
