from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import HardpointError
from kvmagent.iscsi.portals import SessionKey
from kvmagent.iscsi.records import ALWAYS, NodeRecords, check_chap, rewrite, settings_of
from kvmagent.protocol_iscsi import Chap, IscsiServer

IQN = "iqn.2026-01.org.example:san"
RECORD = """\
# BEGIN RECORD 2.1.8
node.name = iqn.2026-01.org.example:san
node.startup = automatic
node.session.auth.authmethod = None
node.session.auth.password_in = former
# END RECORD
"""
NAMES = st.text(st.characters(whitelist_categories=["Ll", "Nd"], max_codepoint=127), min_size=1, max_size=8)
SETTINGS = st.dictionaries(NAMES, st.one_of(st.none(), NAMES), max_size=8)


def server(**more: Chap) -> IscsiServer:
    return IscsiServer(uuid="a" * 32, address="10.0.0.1", port=3260, **more)


def lines(text: str) -> dict[str, str]:
    parts = (line.partition(" = ") for line in text.splitlines())
    return {name: value for name, mark, value in parts if mark}


def test_a_record_gets_the_name_and_the_secret_and_loses_former_ones() -> None:
    text = rewrite(RECORD, settings_of(server(chap=Chap(user="hosts", secret="a = b"))))
    found = lines(text)
    assert found["node.session.auth.authmethod"] == "CHAP"
    assert (found["node.session.auth.username"], found["node.session.auth.password"]) == ("hosts", "a = b")
    assert "node.session.auth.password_in" not in found
    assert found["node.startup"] == "manual"
    assert (text.splitlines()[0], text.splitlines()[-1]) == ("# BEGIN RECORD 2.1.8", "# END RECORD")


def test_mutual_chap_is_what_the_target_says_of_itself() -> None:
    both = server(chap=Chap(user="hosts", secret="x"), mutual=Chap(user="san", secret="y"))
    found = lines(rewrite(RECORD, settings_of(both)))
    assert found["node.session.auth.username_in"] == "san"
    assert found["node.session.auth.password_in"] == "y"


@given(SETTINGS, SETTINGS)
def test_what_is_written_is_what_is_read_and_writing_again_changes_nothing(
    first: dict[str, str | None], second: dict[str, str | None]
) -> None:
    once = rewrite(rewrite(RECORD, first), second)
    wanted = {**{k: v for k, v in first.items() if k not in second}, **second}
    found = lines(once)
    assert {name: found.get(name) for name in wanted} == wanted
    assert rewrite(once, second) == once
    assert found.items() >= {k: v for k, v in lines(RECORD).items() if k not in wanted}.items()


@pytest.mark.parametrize("secret", ["qzx\nnode.startup = automatic", " qzx", "qzx ", "qzx\x00"])
def test_a_secret_that_would_be_another_line_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(HardpointError) as refused:
        check_chap(Chap(user="hosts", secret=secret))
    assert secret not in refused.value.details


@pytest.mark.parametrize("database", ["etc/iscsi", "var/lib/iscsi"])
@pytest.mark.parametrize("file", ["10.0.0.1,3260,1/default", "fd00::1,3260,1/default", "10.0.0.1,3260,1"])
def test_records_are_found_where_distributions_have_them(tmp_path: Path, database: str, file: str) -> None:
    record = tmp_path / database / "nodes" / IQN / file
    record.parent.mkdir(parents=True)
    record.write_text(RECORD)
    record.chmod(0o644)
    records = NodeRecords(tmp_path)
    (key,) = records.keys()
    assert (key.iqn, key.port) == (IQN, 3260)
    records.configure(key, server())
    assert lines(record.read_text()).items() >= ALWAYS.items()
    assert record.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / database).iterdir()] == ["nodes"]


def test_a_record_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(HardpointError, match="no node record"):
        NodeRecords(tmp_path).configure(SessionKey(IQN, "10.0.0.1", 3260), server())
