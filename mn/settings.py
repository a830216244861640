"""Settings of the management node: a TOML file, then the environment (HARDPOINT_...)."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, IPvAnyNetwork, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from cephagent.protocol import AGENT_PORT as CEPH_AGENT_PORT
from kvmagent.protocol import AGENT_PORT
from storageagent.protocol import AGENT_PORT as STORAGE_AGENT_PORT


class Settings(BaseSettings):
    """All settings with their units and defaults; the state folder's `mn.toml` and the environment
    change them.
    """

    model_config = SettingsConfigDict(env_prefix="HARDPOINT_", extra="forbid")

    state_dir: Path = Field(description="folder of the database, keys, certificates and logs")
    database_url: SecretStr = Field(
        SecretStr(""),
        description="postgresql://user:password@host/database; empty: SQLite in the state folder",
    )
    listen_address: str = Field("127.0.0.1", description="address that the REST API listens on")
    port: int = Field(8080, ge=0, le=65535, description="port of the REST API")
    tls_certificate: Path | None = Field(None, description="PEM file; with tls_key the REST API is HTTPS")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's key")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    local_agents: bool = Field(
        default=False,
        description="deploy the agents of loopback addresses as processes of this machine, without SSH",
    )
    local_agent_root: Path = Field(
        Path("/"), description="the file tree that local agents read: / or a recorded machine"
    )
    local_agent_libvirt: str | None = Field(
        None,
        description="URI of the libvirt that VMs of local agents run under, emulated; None: the system's",
    )
    local_agent_ceph: Path | None = Field(
        None, description="configuration of the Ceph cluster that local agents see; None: the system's"
    )
    local_agent_rescan_s: float = Field(30.0, gt=0, description="seconds between rescans of a local agent")
    agent_port: int = Field(AGENT_PORT, ge=1, le=65535, description="port of the agents on real hosts")
    storage_agent_port: int = Field(
        STORAGE_AGENT_PORT, ge=1, le=65535, description="port of the agents on image stores' servers"
    )
    ceph_agent_port: int = Field(
        CEPH_AGENT_PORT, ge=1, le=65535, description="port of the agents beside Ceph monitors"
    )
    agent_listen_address: str = Field("0.0.0.0", description="address of a host that its agent listens on")  # noqa: S104
    wheels_dir: Path | None = Field(
        None,
        description="folder of wheels for hosts whose Python or architecture is another one than this"
        " machine's; `wheels` in the state folder by default",
    )
    wheels_index: str = Field(
        "", description="URL of a package index for such hosts; empty: nothing is ever fetched"
    )
    deploy_timeout_s: float = Field(1800.0, gt=0, description="seconds that deploying an agent may take")
    deploys_at_once: int = Field(8, ge=1, description="hosts that an agent is deployed to at once")
    lease_tick_s: float = Field(
        2.0,
        ge=0.05,
        le=60,
        description="seconds between two signs of life of an agent; one that is silent for two of them and"
        " 4 s more is lost. A host without power or network is lost after 8 s whatever this says",
    )
    ssh_check_timeout_s: float = Field(10.0, gt=0, description="seconds to wait for a host's SSH server")
    reconnect_after_s: float = Field(
        10.0,
        gt=0,
        description="seconds that a lost host has to come back by itself before it is reconnected; each"
        " further attempt waits about twice as long",
    )
    reconnect_after_max_s: float = Field(
        300.0, gt=0, description="the longest wait between two attempts to reconnect a lost host"
    )
    shell_timeout_s: float = Field(
        300.0, gt=0, description="seconds a script of KvmRunShell may take on a host"
    )
    shell_output_bytes: int = Field(
        1024 * 1024, ge=1024, description="bytes of each output stream of a script that the reply holds"
    )
    shell_reply_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        description="the same for all hosts of a call together, which share it; at least 1024 a stream",
    )
    shell_hosts_at_once: int = Field(50, ge=1, description="hosts that run the script of a call at once")
    shell_hosts_at_once_in_all: int = Field(
        200, ge=1, description="the same for all calls together, which take turns"
    )
    shell_file_bytes: int = Field(
        1024**3, ge=1, description="bytes kept in a file of an output stream that the reply does not hold"
    )
    shell_files_bytes: int = Field(
        10 * 1024**3, ge=1, description="bytes of all such files; the oldest make room"
    )
    shell_files_jobs: int = Field(1000, ge=1, description="calls whose files are kept; the oldest make room")
    shell_files_free_bytes: int = Field(
        256 * 1024**2, ge=0, description="bytes that such files leave free in the file system"
    )
    body_max_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="bytes that a request's body may have")
    body_timeout_s: float = Field(60.0, gt=0, description="seconds in which a request's body must arrive")
    idle_timeout_s: float = Field(
        75.0,
        gt=0,
        description="seconds in which the head of a connection's next request must arrive; then it is closed",
    )
    web_hook_networks: list[IPvAnyNetwork] = Field(
        [],
        description="networks that web hooks may be sent to; empty: all. Loopback is for requests from"
        " loopback; link-local, multicast and reserved addresses are never called",
    )
    web_hook_ca: Path | None = Field(
        None, description="PEM file of the authorities that HTTPS receivers of web hooks are checked by"
    )
    web_hook_timeout_s: float = Field(10.0, gt=0, description="seconds that a web hook's receiver may take")
    web_hooks_at_once: int = Field(32, ge=1, description="web hooks that are sent at the same time")
    web_hooks_at_once_per_receiver: int = Field(4, ge=1, description="the same, to one receiver")
    web_hook_retry_s: float = Field(
        1.0, gt=0, description="seconds to the second attempt; each further one waits about twice as long"
    )
    web_hook_retry_max_s: float = Field(300.0, gt=0, description="the longest wait between two attempts")
    web_hook_give_up_s: float = Field(86400.0, gt=0, description="seconds after which a web hook is given up")
    login_failures: int = Field(
        5, ge=1, description="failed logins of an address or account before further ones have to wait"
    )
    login_wait_s: float = Field(
        1.0, gt=0, description="seconds of the first wait; each further failure doubles it"
    )
    login_wait_max_s: float = Field(900.0, gt=0, description="the longest wait between two failed logins")
    audit_keep_days: int = Field(180, ge=1, description="days that lines of the audit log are kept")
    metrics_networks: list[IPvAnyNetwork] = Field(
        [], description="networks, beside loopback, that may read /metrics and /health"
    )

    @classmethod
    def load(cls, state_dir: Path, **given: object) -> Settings:
        """Return the settings of a state folder; `given` (the command line) wins over file and
        environment.
        """
        files = [state_dir / "mn.toml"]
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")  # systemd's LoadCredential=
        if credentials:
            files.insert(0, Path(credentials) / "mn.toml")
        _FileSettings.model_config["toml_file"] = files
        return _FileSettings(state_dir=state_dir, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]


class _FileSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="HARDPOINT_", extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
