"""What of this machine's configuration the bare machine is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import bare_tree

TARGETS = [
    {
        "Release": "bookworm",
        "Component": "main",
        "Repo-URI": "http://mirror.invalid/debian/",
        "Sourcesentry": "/etc/apt/sources.list.d/debian.sources:1",
    },
    {
        "Release": "bookworm-security",
        "Component": "main",
        "Repo-URI": "http://mirror.invalid/security/",
        "Sourcesentry": "/etc/apt/sources.list.d/debian.sources:7",
    },
    {
        "Release": "stable",
        "Component": "main",
        "Repo-URI": "http://vendor.invalid/tools/",
        "Sourcesentry": "/etc/apt/sources.list.d/vendor.list:1",
    },
]


def test_a_local_index_brings_the_folder_around_it_and_a_plain_path_itself() -> None:
    text = "extra-index-url = file:///srv/index/simple\nfind-links = /srv/wheels\ncert = '/srv/ca.pem'"
    assert bare_tree.named_paths(text) == {Path("/srv/index"), Path("/srv/wheels"), Path("/srv/ca.pem")}


def test_a_local_index_in_a_top_folder_does_not_bring_the_root_of_the_machine() -> None:
    assert bare_tree.named_paths("find-links = file:///wheels") == {Path("/wheels")}


@pytest.mark.parametrize("text", ["http://mirror.invalid/debian/pool", "a/b", "~/wheels", "timeout = 60", ""])
def test_what_is_no_path_of_this_machine_brings_nothing(text: str) -> None:
    assert bare_tree.named_paths(text) == set()


def test_only_the_sources_of_the_suite_are_given() -> None:
    mirror, files = bare_tree.apt_sources(TARGETS, "bookworm")
    assert mirror == "http://mirror.invalid/debian/"
    assert files == [Path("/etc/apt/sources.list.d/debian.sources")]


def test_on_a_machine_of_another_release_debootstrap_chooses_the_mirror() -> None:
    assert bare_tree.apt_sources(TARGETS, "trixie") == (None, [])


def test_commands_see_how_to_fetch_and_nothing_else_of_our_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    monkeypatch.setenv("HARDPOINT_PASSWORD", "secret")
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere")
    monkeypatch.delenv("HARDPOINT_CRASH_SEEDS", raising=False)
    seen = bare_tree.passed_on_environment()
    assert seen["PIP_INDEX_URL"] == "http://index.invalid/simple"
    assert seen["https_proxy"] == "http://proxy.invalid:3128"
    assert seen["HARDPOINT_CRASH_SEEDS"] == "10"
    assert not {"HARDPOINT_PASSWORD", "VIRTUAL_ENV"} & seen.keys()
