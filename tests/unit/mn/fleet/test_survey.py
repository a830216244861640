from __future__ import annotations

import subprocess

import pytest

from agentkit.errors import HardpointError
from mn.fleet.survey import HostSurvey, parse_survey, script

KEY = "ssh-ed25519 AAAA"
DEBIAN = """\
ready=yes
now=1000.500000000
root=yes
admin=yes
architecture=x86_64
kernel=6.1.0-56-amd64
distribution=debian
distribution_like=
distribution_version=12
distribution_name=Debian GNU/Linux 12 (bookworm)
machine_id=f146644e42db5e7c8600c9ff3862d9f5
python=3.11 /usr/bin/python3
libc=glibc 2.36
virtualisation=svm
kvm=yes
systemd=yes
end=yes
"""


def survey(text: str, sent_s: float = 1000.0, heard_s: float = 1000.2) -> HostSurvey:
    return parse_survey(text, host_key=KEY, label="root@host:22", sent_s=sent_s, heard_s=heard_s)


def test_a_host_without_an_agent() -> None:
    found = survey(DEBIAN)
    assert (found.distribution, found.distribution_version) == ("debian", "12")
    assert found.distribution_name == "Debian GNU/Linux 12 (bookworm)"
    assert (found.python, found.python_path) == ((3, 11), "/usr/bin/python3")
    assert (found.root, found.admin, found.kvm, found.systemd, found.firewalld) == (
        True,
        True,
        True,
        True,
        False,
    )
    assert (found.agent_version, found.owner_fleet_uuid, found.certificate) == (None, None, None)
    assert found.host_key == KEY


def test_half_the_round_trip_is_taken_off_the_clocks_difference() -> None:
    assert survey(DEBIAN, 1000.0, 1000.2).clock_offset_s == pytest.approx(0.4)
    assert survey(DEBIAN, 1300.4, 1300.6).clock_offset_s == pytest.approx(-300.0)


def test_a_date_command_without_nanoseconds_gives_whole_seconds() -> None:
    assert survey(DEBIAN.replace("now=1000.500000000", "now=1000.%N")).clock_offset_s == pytest.approx(-0.1)


def test_a_deployed_agent_with_its_owner_and_certificate() -> None:
    found = survey(
        DEBIAN.replace(
            "end=yes",
            "agent_version=0.1.0+aa\nrelease=0.1.0+aa\nrelease=0.1.0+bb\n"
            'owner={"hostUuid":"h1","fleetUuid":"f1"}\nowner={"hostUuid":"h2","fleetUuid":"f2"}\n'
            "certificate=-----BEGIN CERTIFICATE-----\ncertificate=MII=\n"
            "certificate=-----END CERTIFICATE-----\n"
            "end=yes",
        )
    )
    assert found.agent_version == "0.1.0+aa"
    assert found.releases == ("0.1.0+aa", "0.1.0+bb")
    assert (found.owner_host_uuid, found.owner_fleet_uuid) == ("h1", "f1")
    assert found.certificate == "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"


def test_an_owner_that_cannot_be_read_is_passed_over_for_the_next() -> None:
    text = DEBIAN.replace("end=yes", 'owner={"host\nowner={"hostUuid":"h2","fleetUuid":"f2"}\nend=yes')
    assert survey(text).owner_fleet_uuid == "f2"


@pytest.mark.parametrize(
    ("told", "libc"),
    [
        ("glibc 2.34", "glibc 2.34"),
        ("ldd (Ubuntu GLIBC 2.35-0ubuntu3.8) 2.35", "glibc 2.35"),
        ("ldd (GNU libc) 2.34", "glibc 2.34"),
        ("musl libc (x86_64)", "musl"),
        ("", None),
    ],
)
def test_the_c_library_by_whatever_tells_it(told: str, libc: str | None) -> None:
    assert survey(DEBIAN.replace("glibc 2.36", told)).libc == libc


def test_a_host_without_python_virtualisation_and_os_release() -> None:
    lines = [line for line in DEBIAN.splitlines() if not line.startswith(("python", "kvm", "distribution"))]
    found = survey("\n".join(lines).replace("virtualisation=svm", "virtualisation="))
    assert (found.python, found.python_path, found.virtualisation, found.kvm) == (None, None, None, False)
    assert (found.distribution, found.distribution_name) == ("", "")


def test_what_a_login_shell_prints_before_is_passed_over() -> None:
    banner = "Welcome!\nroot=no\ndistribution=windows\nuptime=3 days\n"
    found = survey(banner + DEBIAN)
    assert (found.root, found.distribution) == (True, "debian")


@pytest.mark.parametrize("text", ["", "now=1\nroot=yes\n", "This account is not available.\n", "end=yes\n"])
def test_a_script_that_did_not_come_to_its_end_is_an_error_that_quotes_the_host(text: str) -> None:
    with pytest.raises(HardpointError) as caught:
        survey(text)
    assert caught.value.code == "HOST.1003"
    assert "root@host:22" in caught.value.details
    assert text.strip()[-20:] in caught.value.details


def test_the_script_is_one_line_that_any_login_shell_hands_on_unharmed() -> None:
    command = script()
    inner = command.removeprefix("exec /bin/sh -c '").removesuffix("'")
    assert "'" not in inner
    assert "\n" not in inner


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_script_looks_at_this_machine(shell: str) -> None:
    done = subprocess.run(
        [shell, "-c", script()], input="secret\n", capture_output=True, text=True, check=True, timeout=60
    )
    found = survey(done.stdout)
    assert found.python is not None
    assert found.kernel
    assert found.architecture
    assert "secret" not in done.stdout + done.stderr
