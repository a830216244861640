import pytest

from agentkit.errors import HardpointError
from kvmagent.settings import load

FILES = 'certificate = "c"\nkey = "k"\nca = "a"\n'


def test_only_the_certificate_files_need_be_given(tmp_path):
    (tmp_path / "a.toml").write_text(FILES)
    settings = load(tmp_path / "a.toml")
    assert (settings.port, settings.root, settings.rescan_s) == (7070, "/", 30)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "missing required field `certificate`"),
        (FILES + "prot = 1\n", "unknown field `prot`"),
        (FILES + "port = 70000\n", "port is 70000"),
        (FILES + "rescan_s = 0\n", "rescan_s is 0"),
        (FILES + 'log_level = "loud"\n', "log_level is 'loud'"),
        (FILES + "port = \n", "is wrong"),
    ],
)
def test_a_wrong_file_is_refused_with_its_fault(tmp_path, text, complaint):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(HardpointError) as caught:
        load(tmp_path / "a.toml")
    assert complaint in caught.value.details
    assert "a.toml" in caught.value.details


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HardpointError, match=r"nothing\.toml cannot be read: No such file"):
        load(tmp_path / "nothing.toml")


def test_the_key_may_be_a_credential_of_systemd(tmp_path, monkeypatch):
    path = tmp_path / "agent.toml"
    path.write_text('certificate = "c"\nkey = "${CREDENTIALS_DIRECTORY}/agent.key"\nca = "a"\n')
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/kvmagent")
    assert load(path).key == "/run/credentials/kvmagent/agent.key"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(HardpointError, match="LoadCredential"):
        load(path)
