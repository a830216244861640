"""The agent on a real machine with systemd: deployed, upgraded, switched back, renewed, removed."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.lab.deployment import FLEET, HOST, Deployment, tree_with
from tests.lab.guest import Guest
from tests.lab.lab import Lab

pytestmark = pytest.mark.timeout(1200)
UNIT = "hardpoint-kvmagent.service"
HOME = "/opt/hardpoint/kvmagent"
AGAIN_TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Guest:
    """A KVM host that has all packages; this thread is on its network."""
    return lab.guest("kvm2")


@pytest.fixture(scope="module")
def deployment(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A fleet that has deployed its agent to the guest."""
    made = Deployment(tmp_path_factory.mktemp("fleet"), guest.address, guest.password)
    answer = made.do("deploy")
    assert "error" not in answer, answer
    assert answer["hello"]["version"] == answer["version"]
    assert answer["tasks"][-1] == "wait for the agent"
    return made


def versions(guest: Guest) -> set[str]:
    return set(guest.run(f"cd {HOME}; ls -d [0-9]*").split())


def current(guest: Guest) -> str:
    return guest.run(f"readlink {HOME}/current").strip()


def test_the_service_is_ready_watched_and_enabled(deployment: Deployment, guest: Guest) -> None:
    shown = guest.run(f"systemctl show -p ActiveState,UnitFileState,Type,WatchdogUSec {UNIT}")
    assert set(shown.split()) == {
        "Type=notify",
        "ActiveState=active",
        "UnitFileState=enabled",
        "WatchdogUSec=1min",
    }


def test_how_exposed_systemd_finds_the_service(
    deployment: Deployment, guest: Guest, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = guest.run(f"systemd-analyze security --no-pager {UNIT}").splitlines()
    with capsys.disabled():
        print("\n" + "\n".join(line for line in lines if line.startswith(("✗", "→"))))
    exposure = float(lines[-1].split(":")[1].split()[0])
    assert exposure < 6.0


def test_an_agent_that_is_in_place_costs_no_ansible(deployment: Deployment) -> None:
    answer = deployment.do("deploy")
    assert (answer["plays"], answer["tasks"]) == (0, [])
    assert answer["hello"]["version"] == answer["version"]


def test_the_port_answers_nobody_without_a_certificate(deployment: Deployment, guest: Guest) -> None:
    context = ssl.create_default_context(cafile=deployment.state / "ca" / "ca.pem")
    assert _answer(context, guest.address) == b""


def _answer(context: ssl.SSLContext, address: str) -> bytes:
    """Return what the agent says to a request over TLS; nothing when it ends the connection."""
    try:
        with (
            socket.create_connection((address, 7070), 10) as plain,
            context.wrap_socket(plain, server_hostname=address) as connection,
        ):
            connection.sendall(b"GET /v1/hello HTTP/1.1\r\nHost: x\r\n\r\n")
            return connection.recv(64)
    except ssl.SSLCertVerificationError:
        raise
    except (ssl.SSLError, ConnectionError):
        return b""


def test_a_renewed_certificate_is_shown_and_survives_a_restart(deployment: Deployment, guest: Guest) -> None:
    before = deployment.do("hello")["serial"]
    renewed = deployment.do("renew")["serial"]
    assert renewed != before
    guest.run(f"systemctl restart {UNIT}", 120)

    def shows_it() -> bool:
        answer = deployment.do("hello")
        return answer.get("serial", answer.get("details")) == renewed

    wait_until(shows_it, "the renewed certificate to be shown", AGAIN_TIMEOUT_S)


def test_a_second_run_changes_nothing(deployment: Deployment, guest: Guest) -> None:
    before = guest.run(f"systemctl show -p InvocationID {UNIT}")
    answer = deployment.do("again")
    assert (answer["plays"], answer["changed"]) == (1, 0), answer
    assert guest.run(f"systemctl show -p InvocationID {UNIT}") == before


def test_a_host_of_another_fleet_is_left_alone(deployment: Deployment, guest: Guest, tmp_path: Path) -> None:
    stranger = Deployment(tmp_path, guest.address, guest.password, host="b" * 32, fleet="e" * 32)
    answer = stranger.do("deploy")
    assert answer["error"] == "HOST.1003"
    assert FLEET in answer["details"]
    stranger.do("undeploy")
    assert deployment.do("hello")["hello"]["version"]
    survey = deployment.do("survey")["survey"]
    assert (survey["owner_fleet_uuid"], survey["owner_host_uuid"]) == (FLEET, HOST)


def test_an_upgrade_goes_beside_and_the_version_before_is_kept(
    deployment: Deployment, guest: Guest, tmp_path: Path
) -> None:
    old = current(guest)
    tree = tree_with(tmp_path, {"agentkit/owner.py": ('OWNER_FILE = "', 'UPGRADED = True\nOWNER_FILE = "')})
    answer = deployment.do("deploy", tree)
    assert "error" not in answer, answer
    assert answer["version"] != old
    assert answer["hello"]["version"] == answer["version"] == current(guest)
    assert versions(guest) == {old, answer["version"]}


def test_an_upgrade_that_does_not_start_is_switched_back_with_its_last_words(
    deployment: Deployment, guest: Guest, tmp_path: Path
) -> None:
    old = current(guest)
    first = "    return serve(AGENT, load, build, argv)"
    tree = tree_with(tmp_path, {"kvmagent/server.py": (first, '    raise SystemExit("broken on purpose")')})
    answer = deployment.do("deploy", tree)
    assert answer["error"] == "HOST.1000"
    assert "broken on purpose" in answer["details"]
    assert f"version {old} runs again" in answer["details"]
    assert current(guest) == old
    assert answer["version"] not in versions(guest)
    assert guest.run(f"systemctl is-active {UNIT}").strip() == "active"


def test_an_upgrade_that_starts_but_cannot_be_reached_is_switched_back(
    deployment: Deployment, guest: Guest, tmp_path: Path
) -> None:
    old = current(guest)
    template = "ansible/roles/agent/templates/agent.toml.j2"
    tree = tree_with(tmp_path, {template: ("{{ hardpoint_listen_address | to_json }}", '"127.0.0.1"')})
    answer = deployment.do("deploy", tree)
    assert answer["error"] == "HOST.1000"
    assert "cannot be reached" in answer["details"]
    assert f"version {old} runs again" in answer["details"]
    assert current(guest) == old


def test_wrong_passwords_and_changed_host_keys_stop_before_anything_is_done(
    deployment: Deployment, guest: Guest, tmp_path: Path
) -> None:
    wrong = Deployment(tmp_path, guest.address, "wrong")
    assert wrong.do("deploy")["error"] == "HOST.1012"
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0dGiAhzTzbRBBmR4ZTW4IIlD3pM8UlFkrJ9nYKQtZ1"
    changed = Deployment(tmp_path, guest.address, guest.password).do("deploy", host_key=key)
    assert changed["error"] == "HOST.1003"
    assert "host key changed" in changed["details"]


def test_removal_leaves_nothing(deployment: Deployment, guest: Guest) -> None:
    assert "error" not in deployment.do("undeploy")
    places = f"/opt/hardpoint /etc/hardpoint /var/lib/hardpoint /etc/systemd/system/{UNIT}"
    assert guest.try_run(f"ls -d {places} 2>/dev/null").stdout == ""
    assert deployment.do("undeploy")["plays"] == 0
