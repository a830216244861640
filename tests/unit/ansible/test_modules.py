"""The modules that run on hosts, run here as ansible runs them there: a process, JSON in, JSON out."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

LIBRARY = Path(__file__).parents[3] / "ansible" / "library"


def run_module(name: str, path: str | None = None, **arguments: Any) -> dict[str, Any]:
    environment = {**os.environ, **({"PATH": path} if path else {})}
    done = subprocess.run(
        [sys.executable, str(LIBRARY / f"{name}.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def bundle(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    return path


def test_files_are_written_once_with_their_modes(tmp_path: Path) -> None:
    files = {
        str(tmp_path / "a" / "public"): {"content": "one\n", "mode": "0644"},
        str(tmp_path / "a" / "secret"): {"content": "private key\n", "mode": "0600"},
    }
    first = run_module("host_files", files=files)
    assert first["changed"] is True
    assert (tmp_path / "a" / "secret").stat().st_mode & 0o777 == 0o600
    assert "private key" not in json.dumps(first)
    assert run_module("host_files", files=files)["changed"] is False
    (tmp_path / "a" / "public").write_text("edited\n")
    again = run_module("host_files", files=files)
    assert again["paths"] == [str(tmp_path / "a" / "public")]
    assert (tmp_path / "a" / "public").read_text() == "one\n"


def test_files_that_must_not_be_there_go(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("")
    assert run_module("host_files", files={}, absent=[str(tmp_path / "old")])["changed"] is True
    assert not (tmp_path / "old").exists()
    assert run_module("host_files", files={}, absent=[str(tmp_path / "old")])["changed"] is False


def test_a_release_is_there_whole_and_made_once(tmp_path: Path) -> None:
    archive = bundle(
        tmp_path / "b.tar.gz", {"kvmagent/__init__.py": "", "kvmagent/__main__.py": "print('hi')"}
    )
    given = {
        "home": str(tmp_path / "home"),
        "version": "1+a",
        "bundle": str(archive),
        "python": sys.executable,
    }
    assert run_module("agent_release", **given)["changed"] is True
    python = tmp_path / "home" / "1+a" / "bin" / "python"
    done = subprocess.run([python, "-I", "-m", "kvmagent"], capture_output=True, text=True, check=True)
    assert done.stdout == "hi\n"
    assert run_module("agent_release", **given)["changed"] is False


def test_a_release_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    archive = bundle(tmp_path / "b.tar.gz", {"kvmagent/__init__.py": ""})
    (tmp_path / "home" / "1+a" / "lib").mkdir(parents=True)
    (tmp_path / "home" / ".partial-1+a" / "half").mkdir(parents=True)
    home = str(tmp_path / "home")
    given = {"home": home, "version": "1+a", "bundle": str(archive), "python": sys.executable}
    assert run_module("agent_release", **given)["changed"] is True
    assert (tmp_path / "home" / "1+a" / "bin" / "python").exists()
    assert not (tmp_path / "home" / ".partial-1+a").exists()


@pytest.mark.parametrize("name", ["../evil.py", "/tmp/evil.py", "a/../../evil.py"])
def test_a_bundle_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive = bundle(tmp_path / "b.tar.gz", {name: "x"})
    home = str(tmp_path / "home")
    given = {"home": home, "version": "1+a", "bundle": str(archive), "python": sys.executable}
    answer = run_module("agent_release", **given)
    assert answer["failed"] is True
    assert "unusable member" in answer["msg"]
    assert not (tmp_path / "home" / "1+a").exists()


def test_a_python_without_venv_is_named(tmp_path: Path) -> None:
    command(tmp_path, "python9", "echo 'No module named venv' >&2; exit 1")
    archive = bundle(tmp_path / "b.tar.gz", {"kvmagent/__init__.py": ""})
    home = str(tmp_path / "home")
    answer = run_module(
        "agent_release", home=home, version="1", bundle=str(archive), python=str(tmp_path / "python9")
    )
    assert "No module named venv" in answer["msg"]
    assert "standard library" in answer["remedy"]


def fake_apt(folder: Path, installed: list[str], installs: str = "exit 100") -> str:
    """Make a dpkg-query that knows `installed` and an apt-get that writes down how it was called."""
    (folder / "installed").write_text("".join(f"installed {name}\n" for name in installed))
    command(folder, "dpkg-query", f"cat {folder}/installed")
    command(
        folder, "apt-get", f'echo "$@" >>{folder}/calls\ncase "$*" in *update*) exit 0;; esac\n{installs}'
    )
    return f"{folder}:/usr/bin:/bin"


def test_nothing_is_fetched_when_all_packages_are_there(tmp_path: Path) -> None:
    path = fake_apt(tmp_path, ["lvm2", "qemu-utils"])
    answer = run_module("host_packages", path, manager="apt", names=["lvm2", "qemu-utils"])
    assert (answer["changed"], answer["installed"]) == (False, [])
    assert not (tmp_path / "calls").exists()


def test_only_missing_packages_are_installed(tmp_path: Path) -> None:
    path = fake_apt(tmp_path, ["lvm2"], f"echo installed qemu-utils >>{tmp_path}/installed")
    answer = run_module("host_packages", path, manager="apt", names=["lvm2", "qemu-utils"])
    assert (answer["changed"], answer["installed"]) == (True, ["qemu-utils"])
    assert (tmp_path / "calls").read_text().splitlines()[-1].endswith("install qemu-utils")


def test_packages_that_cannot_be_installed_are_named_with_what_the_manager_said(tmp_path: Path) -> None:
    path = fake_apt(tmp_path, ["lvm2"], "echo 'E: Unable to locate package qemu-utils' >&2; exit 100")
    answer = run_module("host_packages", path, manager="apt", names=["lvm2", "qemu-utils"])
    assert answer["failed"] is True
    assert "qemu-utils" in answer["msg"]
    assert "Unable to locate package" in answer["msg"]
    assert "repositories" in answer["remedy"]


def test_an_installation_that_was_cut_off_is_finished_first(tmp_path: Path) -> None:
    refusal = "echo \"E: you must run 'dpkg --configure -a'\" >&2; exit 100"
    script = (
        f"test -e {tmp_path}/configured || {{ {refusal}; }}\necho installed qemu-utils >>{tmp_path}/installed"
    )
    path = fake_apt(tmp_path, ["lvm2"], script)
    command(tmp_path, "dpkg", f"touch {tmp_path}/configured")
    answer = run_module("host_packages", path, manager="apt", names=["lvm2", "qemu-utils"])
    assert answer["installed"] == ["qemu-utils"], answer


def test_dnf_hosts_ask_rpm_what_is_there(tmp_path: Path) -> None:
    command(tmp_path, "rpm", f'case "$*" in *lvm2*) exit 0;; esac; test -e {tmp_path}/done')
    command(tmp_path, "dnf", f'echo "$@" >{tmp_path}/calls; touch {tmp_path}/done')
    answer = run_module(
        "host_packages", f"{tmp_path}:/usr/bin:/bin", manager="dnf", names=["lvm2", "nfs-utils"]
    )
    assert answer["installed"] == ["nfs-utils"]
    assert (tmp_path / "calls").read_text() == "-y -q install nfs-utils\n"


def test_packages_that_may_be_absent_stop_nothing_and_are_named(tmp_path: Path) -> None:
    command(tmp_path, "rpm", f'test -e {tmp_path}/$(echo "$@" | sed "s/.* //")')
    command(
        tmp_path, "dnf", f'case "$*" in *rbd*) touch {tmp_path}/rbd;; *) echo no match >&2; exit 1;; esac'
    )
    path, optional = f"{tmp_path}:/usr/bin:/bin", ["ceph-common", "rbd"]
    (tmp_path / "lvm2").touch()
    answer = run_module("host_packages", path, manager="dnf", names=["lvm2"], optional=optional)
    assert (answer["changed"], answer["installed"], answer["absent"]) == (True, ["rbd"], ["ceph-common"])
    answer = run_module("host_packages", path, manager="dnf", names=["lvm2"], optional=optional)
    assert (answer["changed"], answer["absent"]) == (False, ["ceph-common"])


def test_the_firewall_is_opened_now_and_for_good_and_only_once(tmp_path: Path) -> None:
    script = (
        f'case "$*" in *--query*) test -e {tmp_path}/open-$#;; *) echo "$@" >>{tmp_path}/calls; '
        f"touch {tmp_path}/open-$#;; esac"
    )
    command(tmp_path, "firewall-cmd", script)
    path = f"{tmp_path}:/usr/bin:/bin"
    assert run_module("firewall_port", path, port=7070)["changed"] is True
    assert (tmp_path / "calls").read_text() == "--permanent --add-port=7070/tcp\n--add-port=7070/tcp\n"
    assert run_module("firewall_port", path, port=7070)["changed"] is False
