"""URLs of monitors."""

from __future__ import annotations

import pytest

from agentkit.errors import HardpointError
from mn.facilities.ceph.urls import MonUrl, parse_mon_url, parse_mon_urls


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("root:password@localhost/?monPort=7777", MonUrl("localhost", "root", "password", 22, 7777)),
        ("root:p@ss:w/rd?#@192.0.2.1", MonUrl("192.0.2.1", "root", "p@ss:w/rd?#", 22, 6789)),
        ("admin:x@[2001:db8::1]:2222/?monPort=3300", MonUrl("2001:db8::1", "admin", "x", 2222, 3300)),
        ("root:x@MON-1.example.org:22", MonUrl("mon-1.example.org", "root", "x", 22, 6789)),
        ("root:x@192.0.2.1?monPort=1", MonUrl("192.0.2.1", "root", "x", 22, 1)),
        ("10.0.1.3", MonUrl("10.0.1.3", "root", "")),
    ],
)
def test_a_url_is_taken_apart(text: str, wanted: MonUrl) -> None:
    assert parse_mon_url(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "root:secret@",
        ":secret@192.0.2.1",
        "root:secret@2001:db8::1",
        "root:secret@192.0.2.1/?monPort=0",
        "root:secret@192.0.2.1:99999",
        "root:secret@192.0.2.1/?other=1",
        "root:secret@192.0.2.1/path",
        "root:secret@not a host",
    ],
)
def test_what_is_no_url_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(HardpointError) as caught:
        parse_mon_url(text)
    assert caught.value.code == "SYS.1007"
    assert "secret" not in caught.value.details


def test_a_host_is_named_once() -> None:
    with pytest.raises(HardpointError, match="named twice"):
        parse_mon_urls(["root:a@192.0.2.1", "root:b@192.0.2.1/?monPort=7"])


def test_a_url_hides_its_password() -> None:
    assert "secret" not in repr(parse_mon_url("root:secret@192.0.2.1"))
