"""All tables of the first version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "account",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("password_salt", sa.String(length=32), nullable=False),
        sa.Column("password_hash", sa.String(length=128), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_account")),
        sa.UniqueConstraint("uuid", name=op.f("uq_account_uuid")),
    )
    op.create_index("ix_account_create_date", "account", ["create_date"], unique=False)
    op.create_index("ix_account_name", "account", ["name"], unique=False)

    op.create_table(
        "audit",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("account_uuid", sa.String(length=32), nullable=True),
        sa.Column("session_digest", sa.String(length=12), nullable=True),
        sa.Column("client_address", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=255), nullable=False),
        sa.Column("resource_uuid", sa.String(length=32), nullable=True),
        sa.Column("related_uuids", sa.Text(), nullable=True),
        sa.Column("job_uuid", sa.String(length=32), nullable=True),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=True),
        sa.Column("begun_ms", sa.BigInteger(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
        sa.UniqueConstraint("uuid", name=op.f("uq_audit_uuid")),
    )
    op.create_index("ix_audit_create_date", "audit", ["create_date"], unique=False)
    op.create_index("ix_audit_job_uuid", "audit", ["job_uuid"], unique=False)
    op.create_index("ix_audit_resource_uuid", "audit", ["resource_uuid"], unique=False)

    op.create_table(
        "backup_storage",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("total_capacity", sa.BigInteger(), nullable=False),
        sa.Column("available_capacity", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("attached_zone_uuids", sa.JSON(), nullable=False),
        sa.Column("hostname", sa.String(length=255), nullable=True),
        sa.Column("username", sa.String(length=255), nullable=True),
        sa.Column("fsid", sa.String(length=36), nullable=True),
        sa.Column("pool_name", sa.String(length=128), nullable=True),
        sa.Column("pool_available_capacity", sa.BigInteger(), nullable=True),
        sa.Column("pool_used_capacity", sa.BigInteger(), nullable=True),
        sa.Column("pool_replicated_size", sa.Integer(), nullable=True),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("ssh_port", sa.Integer(), nullable=True),
        sa.Column("ssh_host_key", sa.Text(), nullable=True),
        sa.Column("agent_address", sa.String(length=255), nullable=True),
        sa.Column("agent_port", sa.Integer(), nullable=True),
        sa.Column("inventory_hash", sa.String(length=64), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_backup_storage")),
        sa.UniqueConstraint("fsid", name=op.f("uq_backup_storage_fsid")),
        sa.UniqueConstraint("hostname", name=op.f("uq_backup_storage_hostname")),
        sa.UniqueConstraint("uuid", name=op.f("uq_backup_storage_uuid")),
    )
    op.create_index(
        "ix_backup_storage_available_capacity", "backup_storage", ["available_capacity"], unique=False
    )
    op.create_index("ix_backup_storage_create_date", "backup_storage", ["create_date"], unique=False)
    op.create_index("ix_backup_storage_name", "backup_storage", ["name"], unique=False)
    op.create_index(
        "ix_backup_storage_pool_available_capacity",
        "backup_storage",
        ["pool_available_capacity"],
        unique=False,
    )
    op.create_index("ix_backup_storage_pool_name", "backup_storage", ["pool_name"], unique=False)
    op.create_index(
        "ix_backup_storage_pool_replicated_size", "backup_storage", ["pool_replicated_size"], unique=False
    )
    op.create_index(
        "ix_backup_storage_pool_used_capacity", "backup_storage", ["pool_used_capacity"], unique=False
    )
    op.create_index("ix_backup_storage_state", "backup_storage", ["state"], unique=False)
    op.create_index("ix_backup_storage_status", "backup_storage", ["status"], unique=False)
    op.create_index("ix_backup_storage_total_capacity", "backup_storage", ["total_capacity"], unique=False)
    op.create_index("ix_backup_storage_type", "backup_storage", ["type"], unique=False)

    op.create_table(
        "ceph_server",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("ssh_host_key", sa.Text(), nullable=True),
        sa.Column("agent_address", sa.String(length=255), nullable=True),
        sa.Column("agent_port", sa.Integer(), nullable=True),
        sa.Column("inventory_hash", sa.String(length=64), server_default="", nullable=False),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_ceph_server")),
        sa.UniqueConstraint("hostname", name=op.f("uq_ceph_server_hostname")),
        sa.UniqueConstraint("uuid", name=op.f("uq_ceph_server_uuid")),
    )
    op.create_index("ix_ceph_server_create_date", "ceph_server", ["create_date"], unique=False)

    op.create_table(
        "device_address",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("device_uuid", sa.String(length=32), nullable=False),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_address")),
    )
    op.create_index("ix_device_address_device_uuid", "device_address", ["device_uuid"], unique=False)

    op.create_table(
        "disk_offering",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("disk_size", sa.BigInteger(), nullable=False),
        sa.Column("sort_key", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("allocator_strategy", sa.String(length=64), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_disk_offering")),
        sa.UniqueConstraint("uuid", name=op.f("uq_disk_offering_uuid")),
    )
    op.create_index("ix_disk_offering_create_date", "disk_offering", ["create_date"], unique=False)
    op.create_index("ix_disk_offering_disk_size", "disk_offering", ["disk_size"], unique=False)
    op.create_index("ix_disk_offering_name", "disk_offering", ["name"], unique=False)
    op.create_index("ix_disk_offering_state", "disk_offering", ["state"], unique=False)

    op.create_table(
        "fleet",
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("uuid", name=op.f("pk_fleet")),
    )
    op.create_table(
        "global_config",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("category", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=1024), nullable=False),
        sa.Column("default_value", sa.String(length=255), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_global_config")),
        sa.UniqueConstraint("uuid", name=op.f("uq_global_config_uuid")),
    )
    op.create_index("ix_global_config_category", "global_config", ["category"], unique=False)
    op.create_index("ix_global_config_name", "global_config", ["name"], unique=False)

    op.create_table(
        "image",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("actual_size", sa.BigInteger(), nullable=True),
        sa.Column("md5_sum", sa.String(length=32), nullable=True),
        sa.Column("sha256_sum", sa.String(length=64), nullable=True),
        sa.Column("url", sa.String(length=1024), nullable=False),
        sa.Column("media_type", sa.String(length=32), nullable=False),
        sa.Column("guest_os_type", sa.String(length=255), nullable=True),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("architecture", sa.String(length=32), nullable=True),
        sa.Column("format", sa.String(length=32), nullable=False),
        sa.Column("system", sa.Boolean(), nullable=False),
        sa.Column("export_url", sa.String(length=1024), nullable=True),
        sa.Column("export_md5_sum", sa.String(length=32), nullable=True),
        sa.Column("backup_storage_refs", sa.JSON(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_image")),
        sa.UniqueConstraint("uuid", name=op.f("uq_image_uuid")),
    )
    op.create_index("ix_image_actual_size", "image", ["actual_size"], unique=False)
    op.create_index("ix_image_architecture", "image", ["architecture"], unique=False)
    op.create_index("ix_image_create_date", "image", ["create_date"], unique=False)
    op.create_index("ix_image_format", "image", ["format"], unique=False)
    op.create_index("ix_image_guest_os_type", "image", ["guest_os_type"], unique=False)
    op.create_index("ix_image_media_type", "image", ["media_type"], unique=False)
    op.create_index("ix_image_name", "image", ["name"], unique=False)
    op.create_index("ix_image_platform", "image", ["platform"], unique=False)
    op.create_index("ix_image_sha256_sum", "image", ["sha256_sum"], unique=False)
    op.create_index("ix_image_size", "image", ["size"], unique=False)
    op.create_index("ix_image_state", "image", ["state"], unique=False)
    op.create_index("ix_image_status", "image", ["status"], unique=False)

    op.create_table(
        "instance_offering",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("cpu_num", sa.Integer(), nullable=False),
        sa.Column("cpu_speed", sa.Integer(), nullable=False),
        sa.Column("memory_size", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("allocator_strategy", sa.String(length=64), nullable=False),
        sa.Column("sort_key", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_instance_offering")),
        sa.UniqueConstraint("uuid", name=op.f("uq_instance_offering_uuid")),
    )
    op.create_index("ix_instance_offering_cpu_num", "instance_offering", ["cpu_num"], unique=False)
    op.create_index("ix_instance_offering_create_date", "instance_offering", ["create_date"], unique=False)
    op.create_index("ix_instance_offering_memory_size", "instance_offering", ["memory_size"], unique=False)
    op.create_index("ix_instance_offering_name", "instance_offering", ["name"], unique=False)
    op.create_index("ix_instance_offering_state", "instance_offering", ["state"], unique=False)

    op.create_table(
        "iscsi_server",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("ip", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("chap_user_name", sa.String(length=128), nullable=True),
        sa.Column("chap_user_password", sa.String(length=16), nullable=True),
        sa.Column("mutual_chap_user_name", sa.String(length=128), nullable=True),
        sa.Column("mutual_chap_user_password", sa.String(length=16), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("chap_secret", sa.Text(), nullable=True),
        sa.Column("mutual_chap_secret", sa.Text(), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_iscsi_server")),
        sa.UniqueConstraint("ip", "port", name=op.f("uq_iscsi_server_ip_port")),
        sa.UniqueConstraint("uuid", name=op.f("uq_iscsi_server_uuid")),
    )
    op.create_index("ix_iscsi_server_chap_user_name", "iscsi_server", ["chap_user_name"], unique=False)
    op.create_index(
        "ix_iscsi_server_chap_user_password", "iscsi_server", ["chap_user_password"], unique=False
    )
    op.create_index("ix_iscsi_server_create_date", "iscsi_server", ["create_date"], unique=False)
    op.create_index("ix_iscsi_server_ip", "iscsi_server", ["ip"], unique=False)
    op.create_index(
        "ix_iscsi_server_mutual_chap_user_name", "iscsi_server", ["mutual_chap_user_name"], unique=False
    )
    op.create_index(
        "ix_iscsi_server_mutual_chap_user_password",
        "iscsi_server",
        ["mutual_chap_user_password"],
        unique=False,
    )
    op.create_index("ix_iscsi_server_name", "iscsi_server", ["name"], unique=False)
    op.create_index("ix_iscsi_server_port", "iscsi_server", ["port"], unique=False)
    op.create_index("ix_iscsi_server_state", "iscsi_server", ["state"], unique=False)

    op.create_table(
        "issue",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("resource_type", sa.String(length=64), nullable=False),
        sa.Column("resource_uuid", sa.String(length=32), nullable=False),
        sa.Column("resource_name", sa.String(length=255), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text(), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_issue")),
        sa.UniqueConstraint("uuid", name=op.f("uq_issue_uuid")),
    )
    op.create_index("ix_issue_code", "issue", ["code"], unique=False)
    op.create_index("ix_issue_create_date", "issue", ["create_date"], unique=False)
    op.create_index("ix_issue_operation", "issue", ["operation"], unique=False)
    op.create_index("ix_issue_resource_name", "issue", ["resource_name"], unique=False)
    op.create_index("ix_issue_resource_type", "issue", ["resource_type"], unique=False)
    op.create_index("ix_issue_resource_uuid", "issue", ["resource_uuid"], unique=False)
    op.create_index("ix_issue_severity", "issue", ["severity"], unique=False)
    op.create_index("ix_issue_since", "issue", ["since"], unique=False)

    op.create_table(
        "job",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("operation", sa.String(length=255), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("locks", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("hook", sa.Text(), nullable=True),
        sa.Column("is_long", sa.Boolean(), nullable=False),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("finish_date", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_job")),
        sa.UniqueConstraint("uuid", name=op.f("uq_job_uuid")),
    )
    op.create_index("ix_job_finish_date", "job", ["finish_date"], unique=False)
    op.create_index(
        "ix_job_unfinished",
        "job",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("finish_date IS NULL"),
        postgresql_where=sa.text("finish_date IS NULL"),
    )

    op.create_table(
        "long_job",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("api_id", sa.String(length=32), nullable=False),
        sa.Column("job_name", sa.String(length=255), nullable=False),
        sa.Column("job_data", sa.Text(), nullable=False),
        sa.Column("job_result", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("target_resource_uuid", sa.String(length=32), nullable=True),
        sa.Column("management_node_uuid", sa.String(length=32), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_long_job")),
        sa.UniqueConstraint("api_id", name=op.f("uq_long_job_api_id")),
        sa.UniqueConstraint("uuid", name=op.f("uq_long_job_uuid")),
    )
    op.create_index("ix_long_job_create_date", "long_job", ["create_date"], unique=False)
    op.create_index("ix_long_job_job_name", "long_job", ["job_name"], unique=False)
    op.create_index("ix_long_job_name", "long_job", ["name"], unique=False)
    op.create_index("ix_long_job_state", "long_job", ["state"], unique=False)
    op.create_index("ix_long_job_target_resource_uuid", "long_job", ["target_resource_uuid"], unique=False)

    op.create_table(
        "management_node",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("host_name", sa.String(length=255), nullable=False),
        sa.Column("join_date", sa.BigInteger(), nullable=False),
        sa.Column("heart_beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_management_node")),
        sa.UniqueConstraint("host_name", name=op.f("uq_management_node_host_name")),
        sa.UniqueConstraint("uuid", name=op.f("uq_management_node_uuid")),
    )
    op.create_table(
        "pci_device_offering",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("vendor_id", sa.String(length=4), nullable=False),
        sa.Column("device_id", sa.String(length=4), nullable=False),
        sa.Column("subvendor_id", sa.String(length=4), nullable=True),
        sa.Column("subdevice_id", sa.String(length=4), nullable=True),
        sa.Column("attached_instance_offerings", sa.JSON(), nullable=False),
        sa.Column("matched_pci_devices", sa.JSON(), nullable=False),
        sa.Column("given_type", sa.String(length=32), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_pci_device_offering")),
        sa.UniqueConstraint("uuid", name=op.f("uq_pci_device_offering_uuid")),
    )
    op.create_index(
        "ix_pci_device_offering_create_date", "pci_device_offering", ["create_date"], unique=False
    )
    op.create_index("ix_pci_device_offering_device_id", "pci_device_offering", ["device_id"], unique=False)
    op.create_index("ix_pci_device_offering_name", "pci_device_offering", ["name"], unique=False)
    op.create_index(
        "ix_pci_device_offering_subdevice_id", "pci_device_offering", ["subdevice_id"], unique=False
    )
    op.create_index(
        "ix_pci_device_offering_subvendor_id", "pci_device_offering", ["subvendor_id"], unique=False
    )
    op.create_index("ix_pci_device_offering_vendor_id", "pci_device_offering", ["vendor_id"], unique=False)

    op.create_table(
        "session",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("account_uuid", sa.String(length=32), nullable=False),
        sa.Column("admin", sa.Boolean(), nullable=False),
        sa.Column("expire_date", sa.BigInteger(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_session")),
    )
    op.create_index("ix_session_account_uuid", "session", ["account_uuid"], unique=False)
    op.create_index("ix_session_expire_date", "session", ["expire_date"], unique=False)

    op.create_table(
        "tag",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("resource_uuid", sa.String(length=32), nullable=False),
        sa.Column("resource_type", sa.String(length=64), nullable=False),
        sa.Column("tag", sa.String(length=2048), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("inherent", sa.Boolean(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_tag")),
        sa.UniqueConstraint("uuid", name=op.f("uq_tag_uuid")),
    )
    op.create_index("ix_tag_create_date", "tag", ["create_date"], unique=False)
    op.create_index("ix_tag_resource_type", "tag", ["resource_type"], unique=False)
    op.create_index("ix_tag_resource_uuid", "tag", ["resource_uuid"], unique=False)
    op.create_index("ix_tag_tag", "tag", ["tag"], unique=False, postgresql_using="hash")

    op.create_table(
        "zone",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_zone")),
        sa.UniqueConstraint("uuid", name=op.f("uq_zone_uuid")),
    )
    op.create_index("ix_zone_create_date", "zone", ["create_date"], unique=False)
    op.create_index("ix_zone_name", "zone", ["name"], unique=False)
    op.create_index("ix_zone_state", "zone", ["state"], unique=False)

    op.create_table(
        "backup_storage_zone_ref",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("backup_storage_uuid", sa.String(length=32), nullable=False),
        sa.Column("zone_uuid", sa.String(length=32), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["backup_storage_uuid"],
            ["backup_storage.uuid"],
            name=op.f("fk_backup_storage_zone_ref_backup_storage_uuid"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["zone_uuid"], ["zone.uuid"], name=op.f("fk_backup_storage_zone_ref_zone_uuid")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_backup_storage_zone_ref")),
        sa.UniqueConstraint("uuid", name=op.f("uq_backup_storage_zone_ref_uuid")),
    )
    op.create_index(
        "ix_backup_storage_zone_ref_backup_storage_uuid",
        "backup_storage_zone_ref",
        ["backup_storage_uuid"],
        unique=False,
    )
    op.create_index(
        "ix_backup_storage_zone_ref_create_date", "backup_storage_zone_ref", ["create_date"], unique=False
    )
    op.create_index(
        "ix_backup_storage_zone_ref_zone_uuid", "backup_storage_zone_ref", ["zone_uuid"], unique=False
    )

    op.create_table(
        "ceph_backup_storage_mon",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.Column("mon_uuid", sa.String(length=32), nullable=False),
        sa.Column("mon_addr", sa.String(length=255), nullable=True),
        sa.Column("mon_port", sa.Integer(), nullable=False),
        sa.Column("backup_storage_uuid", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("ssh_username", sa.String(length=255), nullable=False),
        sa.Column("ssh_password", sa.String(length=8), nullable=False),
        sa.Column("ssh_port", sa.Integer(), nullable=False),
        sa.Column("sealed_password", sa.Text(), nullable=False),
        sa.Column("server_uuid", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["backup_storage_uuid"],
            ["backup_storage.uuid"],
            name=op.f("fk_ceph_backup_storage_mon_backup_storage_uuid"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["server_uuid"], ["ceph_server.uuid"], name=op.f("fk_ceph_backup_storage_mon_server_uuid")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_ceph_backup_storage_mon")),
        sa.UniqueConstraint("uuid", name=op.f("uq_ceph_backup_storage_mon_uuid")),
    )
    op.create_index(
        "ix_ceph_backup_storage_mon_backup_storage_uuid",
        "ceph_backup_storage_mon",
        ["backup_storage_uuid"],
        unique=False,
    )
    op.create_index(
        "ix_ceph_backup_storage_mon_create_date", "ceph_backup_storage_mon", ["create_date"], unique=False
    )
    op.create_index(
        "ix_ceph_backup_storage_mon_hostname", "ceph_backup_storage_mon", ["hostname"], unique=False
    )
    op.create_index(
        "ix_ceph_backup_storage_mon_mon_addr", "ceph_backup_storage_mon", ["mon_addr"], unique=False
    )
    op.create_index(
        "ix_ceph_backup_storage_mon_mon_port", "ceph_backup_storage_mon", ["mon_port"], unique=False
    )
    op.create_index(
        "ix_ceph_backup_storage_mon_mon_uuid", "ceph_backup_storage_mon", ["mon_uuid"], unique=False
    )
    op.create_index(
        "ix_ceph_backup_storage_mon_server_uuid", "ceph_backup_storage_mon", ["server_uuid"], unique=False
    )
    op.create_index(
        "ix_ceph_backup_storage_mon_ssh_password", "ceph_backup_storage_mon", ["ssh_password"], unique=False
    )
    op.create_index(
        "ix_ceph_backup_storage_mon_ssh_port", "ceph_backup_storage_mon", ["ssh_port"], unique=False
    )
    op.create_index(
        "ix_ceph_backup_storage_mon_ssh_username", "ceph_backup_storage_mon", ["ssh_username"], unique=False
    )
    op.create_index("ix_ceph_backup_storage_mon_status", "ceph_backup_storage_mon", ["status"], unique=False)

    op.create_table(
        "cluster",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("hypervisor_type", sa.String(length=32), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("zone_uuid", sa.String(length=32), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["zone_uuid"], ["zone.uuid"], name=op.f("fk_cluster_zone_uuid")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_cluster")),
        sa.UniqueConstraint("uuid", name=op.f("uq_cluster_uuid")),
    )
    op.create_index("ix_cluster_create_date", "cluster", ["create_date"], unique=False)
    op.create_index("ix_cluster_hypervisor_type", "cluster", ["hypervisor_type"], unique=False)
    op.create_index("ix_cluster_name", "cluster", ["name"], unique=False)
    op.create_index("ix_cluster_state", "cluster", ["state"], unique=False)
    op.create_index("ix_cluster_zone_uuid", "cluster", ["zone_uuid"], unique=False)

    op.create_table(
        "image_backup_storage_ref",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("image_uuid", sa.String(length=32), nullable=False),
        sa.Column("backup_storage_uuid", sa.String(length=32), nullable=False),
        sa.Column("install_path", sa.String(length=2048), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("export_url", sa.String(length=1024), nullable=True),
        sa.Column("export_md5_sum", sa.String(length=32), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["backup_storage_uuid"],
            ["backup_storage.uuid"],
            name=op.f("fk_image_backup_storage_ref_backup_storage_uuid"),
        ),
        sa.ForeignKeyConstraint(
            ["image_uuid"],
            ["image.uuid"],
            name=op.f("fk_image_backup_storage_ref_image_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_image_backup_storage_ref")),
        sa.UniqueConstraint("uuid", name=op.f("uq_image_backup_storage_ref_uuid")),
    )
    op.create_index(
        "ix_image_backup_storage_ref_backup_storage_uuid",
        "image_backup_storage_ref",
        ["backup_storage_uuid"],
        unique=False,
    )
    op.create_index(
        "ix_image_backup_storage_ref_create_date", "image_backup_storage_ref", ["create_date"], unique=False
    )
    op.create_index(
        "ix_image_backup_storage_ref_image_uuid", "image_backup_storage_ref", ["image_uuid"], unique=False
    )
    op.create_index(
        "ix_image_backup_storage_ref_status", "image_backup_storage_ref", ["status"], unique=False
    )

    op.create_table(
        "iscsi_target",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("iscsi_server_uuid", sa.String(length=32), nullable=False),
        sa.Column("iqn", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["iscsi_server_uuid"],
            ["iscsi_server.uuid"],
            name=op.f("fk_iscsi_target_iscsi_server_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_iscsi_target")),
        sa.UniqueConstraint("iscsi_server_uuid", "iqn", name=op.f("uq_iscsi_target_iscsi_server_uuid_iqn")),
        sa.UniqueConstraint("uuid", name=op.f("uq_iscsi_target_uuid")),
    )
    op.create_index("ix_iscsi_target_create_date", "iscsi_target", ["create_date"], unique=False)
    op.create_index("ix_iscsi_target_iqn", "iscsi_target", ["iqn"], unique=False)
    op.create_index("ix_iscsi_target_iscsi_server_uuid", "iscsi_target", ["iscsi_server_uuid"], unique=False)
    op.create_index("ix_iscsi_target_state", "iscsi_target", ["state"], unique=False)

    op.create_table(
        "job_hook",
        sa.Column("job_uuid", sa.String(length=32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("receiver", sa.String(length=320), nullable=False),
        sa.Column("from_loopback", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.Float(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_uuid"], ["job.uuid"], name=op.f("fk_job_hook_job_uuid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_uuid", name=op.f("pk_job_hook")),
    )
    op.create_index(
        "ix_job_hook_due",
        "job_hook",
        ["due"],
        unique=False,
        sqlite_where=sa.text("state = 'Pending'"),
        postgresql_where=sa.text("state = 'Pending'"),
    )

    op.create_table(
        "job_lock",
        sa.Column("resource", sa.String(length=255), nullable=False),
        sa.Column("job_uuid", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_uuid"], ["job.uuid"], name=op.f("fk_job_lock_job_uuid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("resource", name=op.f("pk_job_lock")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_step",
        sa.Column("job_uuid", sa.String(length=32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("undone", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_uuid"], ["job.uuid"], name=op.f("fk_job_step_job_uuid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_uuid", "position", name=op.f("pk_job_step")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "l2_network",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("zone_uuid", sa.String(length=32), nullable=False),
        sa.Column("physical_interface", sa.String(length=15), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("vlan", sa.Integer(), nullable=True),
        sa.Column("attached_cluster_uuids", sa.JSON(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["zone_uuid"], ["zone.uuid"], name=op.f("fk_l2_network_zone_uuid")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_l2_network")),
        sa.UniqueConstraint("uuid", name=op.f("uq_l2_network_uuid")),
    )
    op.create_index("ix_l2_network_create_date", "l2_network", ["create_date"], unique=False)
    op.create_index("ix_l2_network_name", "l2_network", ["name"], unique=False)
    op.create_index("ix_l2_network_physical_interface", "l2_network", ["physical_interface"], unique=False)
    op.create_index("ix_l2_network_type", "l2_network", ["type"], unique=False)
    op.create_index("ix_l2_network_vlan", "l2_network", ["vlan"], unique=False)
    op.create_index("ix_l2_network_zone_uuid", "l2_network", ["zone_uuid"], unique=False)

    op.create_table(
        "pci_offering_instance_ref",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("instance_offering_uuid", sa.String(length=32), nullable=False),
        sa.Column("pci_device_offering_uuid", sa.String(length=32), nullable=False),
        sa.Column("pci_device_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_offering_uuid"],
            ["instance_offering.uuid"],
            name=op.f("fk_pci_offering_instance_ref_instance_offering_uuid"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["pci_device_offering_uuid"],
            ["pci_device_offering.uuid"],
            name=op.f("fk_pci_offering_instance_ref_pci_device_offering_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_pci_offering_instance_ref")),
        sa.UniqueConstraint("uuid", name=op.f("uq_pci_offering_instance_ref_uuid")),
    )
    op.create_index(
        "ix_pci_offering_instance_ref_instance_offering_uuid",
        "pci_offering_instance_ref",
        ["instance_offering_uuid"],
        unique=False,
    )
    op.create_index(
        "ix_pci_offering_instance_ref_pci_device_count",
        "pci_offering_instance_ref",
        ["pci_device_count"],
        unique=False,
    )
    op.create_index(
        "ix_pci_offering_instance_ref_pci_device_offering_uuid",
        "pci_offering_instance_ref",
        ["pci_device_offering_uuid"],
        unique=False,
    )

    op.create_table(
        "primary_storage",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("zone_uuid", sa.String(length=32), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("total_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("available_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_physical_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("available_physical_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("system_used_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("mount_path", sa.String(length=2048), nullable=False),
        sa.Column("attached_cluster_uuids", sa.JSON(), nullable=False),
        sa.Column("shared_block_group_type", sa.String(length=32), nullable=True),
        sa.Column("fsid", sa.String(length=36), nullable=True),
        sa.Column("root_volume_pool_name", sa.String(length=128), nullable=True),
        sa.Column("data_volume_pool_name", sa.String(length=128), nullable=True),
        sa.Column("image_cache_pool_name", sa.String(length=128), nullable=True),
        sa.Column("ceph_client", sa.String(length=128), nullable=True),
        sa.Column("former_ceph_clients", sa.JSON(), nullable=True),
        sa.Column("initialised", sa.Boolean(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["zone_uuid"], ["zone.uuid"], name=op.f("fk_primary_storage_zone_uuid")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_primary_storage")),
        sa.UniqueConstraint("fsid", name=op.f("uq_primary_storage_fsid")),
        sa.UniqueConstraint("uuid", name=op.f("uq_primary_storage_uuid")),
    )
    op.create_index(
        "ix_primary_storage_available_capacity", "primary_storage", ["available_capacity"], unique=False
    )
    op.create_index(
        "ix_primary_storage_available_physical_capacity",
        "primary_storage",
        ["available_physical_capacity"],
        unique=False,
    )
    op.create_index("ix_primary_storage_create_date", "primary_storage", ["create_date"], unique=False)
    op.create_index(
        "ix_primary_storage_data_volume_pool_name", "primary_storage", ["data_volume_pool_name"], unique=False
    )
    op.create_index(
        "ix_primary_storage_image_cache_pool_name", "primary_storage", ["image_cache_pool_name"], unique=False
    )
    op.create_index("ix_primary_storage_name", "primary_storage", ["name"], unique=False)
    op.create_index(
        "ix_primary_storage_root_volume_pool_name", "primary_storage", ["root_volume_pool_name"], unique=False
    )
    op.create_index(
        "ix_primary_storage_shared_block_group_type",
        "primary_storage",
        ["shared_block_group_type"],
        unique=False,
    )
    op.create_index("ix_primary_storage_state", "primary_storage", ["state"], unique=False)
    op.create_index("ix_primary_storage_status", "primary_storage", ["status"], unique=False)
    op.create_index(
        "ix_primary_storage_system_used_capacity", "primary_storage", ["system_used_capacity"], unique=False
    )
    op.create_index("ix_primary_storage_total_capacity", "primary_storage", ["total_capacity"], unique=False)
    op.create_index(
        "ix_primary_storage_total_physical_capacity",
        "primary_storage",
        ["total_physical_capacity"],
        unique=False,
    )
    op.create_index("ix_primary_storage_type", "primary_storage", ["type"], unique=False)
    op.create_index("ix_primary_storage_url", "primary_storage", ["url"], unique=False)
    op.create_index("ix_primary_storage_zone_uuid", "primary_storage", ["zone_uuid"], unique=False)

    op.create_table(
        "vm_instance",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("zone_uuid", sa.String(length=32), nullable=False),
        sa.Column("cluster_uuid", sa.String(length=32), nullable=True),
        sa.Column("image_uuid", sa.String(length=32), nullable=True),
        sa.Column("host_uuid", sa.String(length=32), nullable=True),
        sa.Column("last_host_uuid", sa.String(length=32), nullable=True),
        sa.Column("instance_offering_uuid", sa.String(length=32), nullable=True),
        sa.Column("root_volume_uuid", sa.String(length=32), nullable=True),
        sa.Column("platform", sa.String(length=32), nullable=True),
        sa.Column("default_l3_network_uuid", sa.String(length=32), nullable=True),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("hypervisor_type", sa.String(length=32), nullable=True),
        sa.Column("memory_size", sa.BigInteger(), nullable=False),
        sa.Column("cpu_num", sa.Integer(), nullable=False),
        sa.Column("cpu_speed", sa.BigInteger(), nullable=False),
        sa.Column("allocator_strategy", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("console_password", sa.Text(), nullable=False),
        sa.Column("destination_host_uuid", sa.String(length=32), nullable=True),
        sa.Column("destroyed_at", sa.BigInteger(), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["zone_uuid"], ["zone.uuid"], name=op.f("fk_vm_instance_zone_uuid")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_vm_instance")),
        sa.UniqueConstraint("uuid", name=op.f("uq_vm_instance_uuid")),
    )
    op.create_index("ix_vm_instance_cluster_uuid", "vm_instance", ["cluster_uuid"], unique=False)
    op.create_index("ix_vm_instance_cpu_num", "vm_instance", ["cpu_num"], unique=False)
    op.create_index("ix_vm_instance_create_date", "vm_instance", ["create_date"], unique=False)
    op.create_index(
        "ix_vm_instance_default_l3_network_uuid", "vm_instance", ["default_l3_network_uuid"], unique=False
    )
    op.create_index(
        "ix_vm_instance_destination_host_uuid", "vm_instance", ["destination_host_uuid"], unique=False
    )
    op.create_index("ix_vm_instance_host_uuid", "vm_instance", ["host_uuid"], unique=False)
    op.create_index("ix_vm_instance_hypervisor_type", "vm_instance", ["hypervisor_type"], unique=False)
    op.create_index("ix_vm_instance_image_uuid", "vm_instance", ["image_uuid"], unique=False)
    op.create_index(
        "ix_vm_instance_instance_offering_uuid", "vm_instance", ["instance_offering_uuid"], unique=False
    )
    op.create_index("ix_vm_instance_last_host_uuid", "vm_instance", ["last_host_uuid"], unique=False)
    op.create_index("ix_vm_instance_memory_size", "vm_instance", ["memory_size"], unique=False)
    op.create_index("ix_vm_instance_name", "vm_instance", ["name"], unique=False)
    op.create_index("ix_vm_instance_root_volume_uuid", "vm_instance", ["root_volume_uuid"], unique=False)
    op.create_index("ix_vm_instance_state", "vm_instance", ["state"], unique=False)
    op.create_index("ix_vm_instance_type", "vm_instance", ["type"], unique=False)
    op.create_index("ix_vm_instance_zone_uuid", "vm_instance", ["zone_uuid"], unique=False)

    op.create_table(
        "ceph_primary_storage_mon",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.Column("mon_uuid", sa.String(length=32), nullable=False),
        sa.Column("mon_addr", sa.String(length=255), nullable=True),
        sa.Column("mon_port", sa.Integer(), nullable=False),
        sa.Column("primary_storage_uuid", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("ssh_username", sa.String(length=255), nullable=False),
        sa.Column("ssh_password", sa.String(length=8), nullable=False),
        sa.Column("ssh_port", sa.Integer(), nullable=False),
        sa.Column("sealed_password", sa.Text(), nullable=False),
        sa.Column("server_uuid", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["primary_storage_uuid"],
            ["primary_storage.uuid"],
            name=op.f("fk_ceph_primary_storage_mon_primary_storage_uuid"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["server_uuid"], ["ceph_server.uuid"], name=op.f("fk_ceph_primary_storage_mon_server_uuid")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_ceph_primary_storage_mon")),
        sa.UniqueConstraint("uuid", name=op.f("uq_ceph_primary_storage_mon_uuid")),
    )
    op.create_index(
        "ix_ceph_primary_storage_mon_create_date", "ceph_primary_storage_mon", ["create_date"], unique=False
    )
    op.create_index(
        "ix_ceph_primary_storage_mon_hostname", "ceph_primary_storage_mon", ["hostname"], unique=False
    )
    op.create_index(
        "ix_ceph_primary_storage_mon_mon_addr", "ceph_primary_storage_mon", ["mon_addr"], unique=False
    )
    op.create_index(
        "ix_ceph_primary_storage_mon_mon_port", "ceph_primary_storage_mon", ["mon_port"], unique=False
    )
    op.create_index(
        "ix_ceph_primary_storage_mon_mon_uuid", "ceph_primary_storage_mon", ["mon_uuid"], unique=False
    )
    op.create_index(
        "ix_ceph_primary_storage_mon_primary_storage_uuid",
        "ceph_primary_storage_mon",
        ["primary_storage_uuid"],
        unique=False,
    )
    op.create_index(
        "ix_ceph_primary_storage_mon_server_uuid", "ceph_primary_storage_mon", ["server_uuid"], unique=False
    )
    op.create_index(
        "ix_ceph_primary_storage_mon_ssh_password", "ceph_primary_storage_mon", ["ssh_password"], unique=False
    )
    op.create_index(
        "ix_ceph_primary_storage_mon_ssh_port", "ceph_primary_storage_mon", ["ssh_port"], unique=False
    )
    op.create_index(
        "ix_ceph_primary_storage_mon_ssh_username", "ceph_primary_storage_mon", ["ssh_username"], unique=False
    )
    op.create_index(
        "ix_ceph_primary_storage_mon_status", "ceph_primary_storage_mon", ["status"], unique=False
    )

    op.create_table(
        "ceph_primary_storage_pool",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("primary_storage_uuid", sa.String(length=32), nullable=False),
        sa.Column("pool_name", sa.String(length=128), nullable=False),
        sa.Column("alias_name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("available_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("used_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("replicated_size", sa.Integer(), nullable=False),
        sa.Column("self_made", sa.Boolean(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["primary_storage_uuid"],
            ["primary_storage.uuid"],
            name=op.f("fk_ceph_primary_storage_pool_primary_storage_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_ceph_primary_storage_pool")),
        sa.UniqueConstraint(
            "primary_storage_uuid",
            "pool_name",
            "type",
            name=op.f("uq_ceph_primary_storage_pool_primary_storage_uuid_pool_name_type"),
        ),
        sa.UniqueConstraint("uuid", name=op.f("uq_ceph_primary_storage_pool_uuid")),
    )
    op.create_index(
        "ix_ceph_primary_storage_pool_alias_name", "ceph_primary_storage_pool", ["alias_name"], unique=False
    )
    op.create_index(
        "ix_ceph_primary_storage_pool_available_capacity",
        "ceph_primary_storage_pool",
        ["available_capacity"],
        unique=False,
    )
    op.create_index(
        "ix_ceph_primary_storage_pool_create_date", "ceph_primary_storage_pool", ["create_date"], unique=False
    )
    op.create_index(
        "ix_ceph_primary_storage_pool_pool_name", "ceph_primary_storage_pool", ["pool_name"], unique=False
    )
    op.create_index(
        "ix_ceph_primary_storage_pool_primary_storage_uuid",
        "ceph_primary_storage_pool",
        ["primary_storage_uuid"],
        unique=False,
    )
    op.create_index(
        "ix_ceph_primary_storage_pool_replicated_size",
        "ceph_primary_storage_pool",
        ["replicated_size"],
        unique=False,
    )
    op.create_index(
        "ix_ceph_primary_storage_pool_total_capacity",
        "ceph_primary_storage_pool",
        ["total_capacity"],
        unique=False,
    )
    op.create_index("ix_ceph_primary_storage_pool_type", "ceph_primary_storage_pool", ["type"], unique=False)
    op.create_index(
        "ix_ceph_primary_storage_pool_used_capacity",
        "ceph_primary_storage_pool",
        ["used_capacity"],
        unique=False,
    )

    op.create_table(
        "host",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("zone_uuid", sa.String(length=32), nullable=False),
        sa.Column("cluster_uuid", sa.String(length=32), nullable=False),
        sa.Column("management_ip", sa.String(length=255), nullable=False),
        sa.Column("hypervisor_type", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("total_cpu_capacity", sa.BigInteger(), nullable=True),
        sa.Column("available_cpu_capacity", sa.BigInteger(), nullable=True),
        sa.Column("cpu_sockets", sa.Integer(), nullable=True),
        sa.Column("total_memory_capacity", sa.BigInteger(), nullable=True),
        sa.Column("available_memory_capacity", sa.BigInteger(), nullable=True),
        sa.Column("cpu_num", sa.Integer(), nullable=True),
        sa.Column("username", sa.String(length=255), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("ssh_port", sa.Integer(), nullable=False),
        sa.Column("ssh_host_key", sa.Text(), nullable=True),
        sa.Column("agent_address", sa.String(length=255), nullable=True),
        sa.Column("agent_port", sa.Integer(), nullable=True),
        sa.Column("inventory_hash", sa.String(length=64), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=True),
        sa.Column("login", sa.String(length=16), server_default="Unverified", nullable=False),
        sa.Column("reconnect_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reconnect_through", sa.BigInteger(), nullable=True),
        sa.Column("reconnect_error", sa.Text(), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["cluster_uuid"], ["cluster.uuid"], name=op.f("fk_host_cluster_uuid")),
        sa.ForeignKeyConstraint(["zone_uuid"], ["zone.uuid"], name=op.f("fk_host_zone_uuid")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_host")),
        sa.UniqueConstraint("management_ip", name=op.f("uq_host_management_ip")),
        sa.UniqueConstraint("uuid", name=op.f("uq_host_uuid")),
    )
    op.create_index("ix_host_available_cpu_capacity", "host", ["available_cpu_capacity"], unique=False)
    op.create_index("ix_host_available_memory_capacity", "host", ["available_memory_capacity"], unique=False)
    op.create_index("ix_host_cluster_uuid", "host", ["cluster_uuid"], unique=False)
    op.create_index("ix_host_cpu_num", "host", ["cpu_num"], unique=False)
    op.create_index("ix_host_cpu_sockets", "host", ["cpu_sockets"], unique=False)
    op.create_index("ix_host_create_date", "host", ["create_date"], unique=False)
    op.create_index("ix_host_hypervisor_type", "host", ["hypervisor_type"], unique=False)
    op.create_index("ix_host_name", "host", ["name"], unique=False)
    op.create_index("ix_host_state", "host", ["state"], unique=False)
    op.create_index("ix_host_status", "host", ["status"], unique=False)
    op.create_index("ix_host_total_cpu_capacity", "host", ["total_cpu_capacity"], unique=False)
    op.create_index("ix_host_total_memory_capacity", "host", ["total_memory_capacity"], unique=False)
    op.create_index("ix_host_zone_uuid", "host", ["zone_uuid"], unique=False)

    op.create_table(
        "image_cache",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("image_uuid", sa.String(length=32), nullable=False),
        sa.Column("primary_storage_uuid", sa.String(length=32), nullable=False),
        sa.Column("place", sa.String(length=65), nullable=False),
        sa.Column("host_uuid", sa.String(length=32), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("origin_pool", sa.String(length=128), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["primary_storage_uuid"],
            ["primary_storage.uuid"],
            name=op.f("fk_image_cache_primary_storage_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_image_cache")),
        sa.UniqueConstraint("image_uuid", "place", name=op.f("uq_image_cache_image_uuid_place")),
        sa.UniqueConstraint("uuid", name=op.f("uq_image_cache_uuid")),
    )
    op.create_index("ix_image_cache_create_date", "image_cache", ["create_date"], unique=False)
    op.create_index("ix_image_cache_image_uuid", "image_cache", ["image_uuid"], unique=False)

    op.create_table(
        "iscsi_lun",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("iscsi_target_uuid", sa.String(length=32), nullable=False),
        sa.Column("wwid", sa.String(length=255), nullable=False),
        sa.Column("vendor", sa.String(length=255), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("wwn", sa.String(length=255), nullable=False),
        sa.Column("serial", sa.String(length=255), nullable=False),
        sa.Column("hctl", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("multipath_device_uuid", sa.String(length=255), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("unit_serial", sa.String(length=255), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["iscsi_target_uuid"],
            ["iscsi_target.uuid"],
            name=op.f("fk_iscsi_lun_iscsi_target_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_iscsi_lun")),
        sa.UniqueConstraint(
            "iscsi_target_uuid", "number", name=op.f("uq_iscsi_lun_iscsi_target_uuid_number")
        ),
        sa.UniqueConstraint("uuid", name=op.f("uq_iscsi_lun_uuid")),
    )
    op.create_index("ix_iscsi_lun_create_date", "iscsi_lun", ["create_date"], unique=False)
    op.create_index("ix_iscsi_lun_hctl", "iscsi_lun", ["hctl"], unique=False)
    op.create_index("ix_iscsi_lun_iscsi_target_uuid", "iscsi_lun", ["iscsi_target_uuid"], unique=False)
    op.create_index("ix_iscsi_lun_model", "iscsi_lun", ["model"], unique=False)
    op.create_index(
        "ix_iscsi_lun_multipath_device_uuid", "iscsi_lun", ["multipath_device_uuid"], unique=False
    )
    op.create_index("ix_iscsi_lun_path", "iscsi_lun", ["path"], unique=False)
    op.create_index("ix_iscsi_lun_serial", "iscsi_lun", ["serial"], unique=False)
    op.create_index("ix_iscsi_lun_size", "iscsi_lun", ["size"], unique=False)
    op.create_index("ix_iscsi_lun_type", "iscsi_lun", ["type"], unique=False)
    op.create_index("ix_iscsi_lun_vendor", "iscsi_lun", ["vendor"], unique=False)
    op.create_index("ix_iscsi_lun_wwid", "iscsi_lun", ["wwid"], unique=False)
    op.create_index("ix_iscsi_lun_wwn", "iscsi_lun", ["wwn"], unique=False)

    op.create_table(
        "iscsi_server_cluster_ref",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=True),
        sa.Column("iscsi_server_uuid", sa.String(length=32), nullable=False),
        sa.Column("cluster_uuid", sa.String(length=32), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_uuid"],
            ["cluster.uuid"],
            name=op.f("fk_iscsi_server_cluster_ref_cluster_uuid"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["iscsi_server_uuid"],
            ["iscsi_server.uuid"],
            name=op.f("fk_iscsi_server_cluster_ref_iscsi_server_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_iscsi_server_cluster_ref")),
        sa.UniqueConstraint(
            "iscsi_server_uuid",
            "cluster_uuid",
            name=op.f("uq_iscsi_server_cluster_ref_iscsi_server_uuid_cluster_uuid"),
        ),
        sa.UniqueConstraint("uuid", name=op.f("uq_iscsi_server_cluster_ref_uuid")),
    )
    op.create_index(
        "ix_iscsi_server_cluster_ref_cluster_uuid", "iscsi_server_cluster_ref", ["cluster_uuid"], unique=False
    )
    op.create_index(
        "ix_iscsi_server_cluster_ref_create_date", "iscsi_server_cluster_ref", ["create_date"], unique=False
    )
    op.create_index("ix_iscsi_server_cluster_ref_id", "iscsi_server_cluster_ref", ["id"], unique=False)
    op.create_index(
        "ix_iscsi_server_cluster_ref_iscsi_server_uuid",
        "iscsi_server_cluster_ref",
        ["iscsi_server_uuid"],
        unique=False,
    )

    op.create_table(
        "l2_network_cluster_ref",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("l2_network_uuid", sa.String(length=32), nullable=False),
        sa.Column("cluster_uuid", sa.String(length=32), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_uuid"], ["cluster.uuid"], name=op.f("fk_l2_network_cluster_ref_cluster_uuid")
        ),
        sa.ForeignKeyConstraint(
            ["l2_network_uuid"], ["l2_network.uuid"], name=op.f("fk_l2_network_cluster_ref_l2_network_uuid")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_l2_network_cluster_ref")),
        sa.UniqueConstraint(
            "l2_network_uuid",
            "cluster_uuid",
            name=op.f("uq_l2_network_cluster_ref_l2_network_uuid_cluster_uuid"),
        ),
        sa.UniqueConstraint("uuid", name=op.f("uq_l2_network_cluster_ref_uuid")),
    )
    op.create_index(
        "ix_l2_network_cluster_ref_cluster_uuid", "l2_network_cluster_ref", ["cluster_uuid"], unique=False
    )
    op.create_index(
        "ix_l2_network_cluster_ref_create_date", "l2_network_cluster_ref", ["create_date"], unique=False
    )
    op.create_index(
        "ix_l2_network_cluster_ref_l2_network_uuid",
        "l2_network_cluster_ref",
        ["l2_network_uuid"],
        unique=False,
    )

    op.create_table(
        "l3_network",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("zone_uuid", sa.String(length=32), nullable=False),
        sa.Column("l2_network_uuid", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("dns_domain", sa.String(length=255), nullable=True),
        sa.Column("system", sa.Boolean(), nullable=False),
        sa.Column("category", sa.String(length=32), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["l2_network_uuid"], ["l2_network.uuid"], name=op.f("fk_l3_network_l2_network_uuid")
        ),
        sa.ForeignKeyConstraint(["zone_uuid"], ["zone.uuid"], name=op.f("fk_l3_network_zone_uuid")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_l3_network")),
        sa.UniqueConstraint("uuid", name=op.f("uq_l3_network_uuid")),
    )
    op.create_index("ix_l3_network_category", "l3_network", ["category"], unique=False)
    op.create_index("ix_l3_network_create_date", "l3_network", ["create_date"], unique=False)
    op.create_index("ix_l3_network_l2_network_uuid", "l3_network", ["l2_network_uuid"], unique=False)
    op.create_index("ix_l3_network_name", "l3_network", ["name"], unique=False)
    op.create_index("ix_l3_network_state", "l3_network", ["state"], unique=False)
    op.create_index("ix_l3_network_zone_uuid", "l3_network", ["zone_uuid"], unique=False)

    op.create_table(
        "primary_storage_allocation",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("resource_uuid", sa.String(length=32), nullable=False),
        sa.Column("primary_storage_uuid", sa.String(length=32), nullable=False),
        sa.Column("host_uuid", sa.String(length=32), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("resource_type", sa.String(length=32), nullable=False),
        sa.Column("charge", sa.BigInteger(), nullable=False),
        sa.Column("storage_type", sa.String(length=32), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["primary_storage_uuid"],
            ["primary_storage.uuid"],
            name=op.f("fk_primary_storage_allocation_primary_storage_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_primary_storage_allocation")),
        sa.UniqueConstraint("uuid", name=op.f("uq_primary_storage_allocation_uuid")),
    )
    op.create_index(
        "ix_primary_storage_allocation_create_date",
        "primary_storage_allocation",
        ["create_date"],
        unique=False,
    )
    op.create_index(
        "ix_primary_storage_allocation_host_uuid", "primary_storage_allocation", ["host_uuid"], unique=False
    )
    op.create_index(
        "ix_primary_storage_allocation_primary_storage_uuid",
        "primary_storage_allocation",
        ["primary_storage_uuid"],
        unique=False,
    )
    op.create_index(
        "ix_primary_storage_allocation_resource_type",
        "primary_storage_allocation",
        ["resource_type"],
        unique=False,
    )
    op.create_index(
        "ix_primary_storage_allocation_resource_uuid",
        "primary_storage_allocation",
        ["resource_uuid"],
        unique=False,
    )
    op.create_index(
        "ix_primary_storage_allocation_size", "primary_storage_allocation", ["size"], unique=False
    )

    op.create_table(
        "primary_storage_cluster_ref",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("primary_storage_uuid", sa.String(length=32), nullable=False),
        sa.Column("cluster_uuid", sa.String(length=32), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_uuid"],
            ["cluster.uuid"],
            name=op.f("fk_primary_storage_cluster_ref_cluster_uuid"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["primary_storage_uuid"],
            ["primary_storage.uuid"],
            name=op.f("fk_primary_storage_cluster_ref_primary_storage_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_primary_storage_cluster_ref")),
        sa.UniqueConstraint(
            "primary_storage_uuid",
            "cluster_uuid",
            name=op.f("uq_primary_storage_cluster_ref_primary_storage_uuid_cluster_uuid"),
        ),
        sa.UniqueConstraint("uuid", name=op.f("uq_primary_storage_cluster_ref_uuid")),
    )
    op.create_index(
        "ix_primary_storage_cluster_ref_cluster_uuid",
        "primary_storage_cluster_ref",
        ["cluster_uuid"],
        unique=False,
    )
    op.create_index(
        "ix_primary_storage_cluster_ref_create_date",
        "primary_storage_cluster_ref",
        ["create_date"],
        unique=False,
    )
    op.create_index(
        "ix_primary_storage_cluster_ref_primary_storage_uuid",
        "primary_storage_cluster_ref",
        ["primary_storage_uuid"],
        unique=False,
    )

    op.create_table(
        "shared_block",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("shared_block_group_uuid", sa.String(length=32), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("disk_uuid", sa.String(length=255), nullable=False),
        sa.Column("bare_wwid", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("total_capacity", sa.BigInteger(), nullable=True),
        sa.Column("available_capacity", sa.BigInteger(), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["shared_block_group_uuid"],
            ["primary_storage.uuid"],
            name=op.f("fk_shared_block_shared_block_group_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_shared_block")),
        sa.UniqueConstraint("bare_wwid", name=op.f("uq_shared_block_bare_wwid")),
        sa.UniqueConstraint("uuid", name=op.f("uq_shared_block_uuid")),
    )
    op.create_index(
        "ix_shared_block_available_capacity", "shared_block", ["available_capacity"], unique=False
    )
    op.create_index("ix_shared_block_create_date", "shared_block", ["create_date"], unique=False)
    op.create_index("ix_shared_block_disk_uuid", "shared_block", ["disk_uuid"], unique=False)
    op.create_index("ix_shared_block_name", "shared_block", ["name"], unique=False)
    op.create_index(
        "ix_shared_block_shared_block_group_uuid", "shared_block", ["shared_block_group_uuid"], unique=False
    )
    op.create_index("ix_shared_block_state", "shared_block", ["state"], unique=False)
    op.create_index("ix_shared_block_status", "shared_block", ["status"], unique=False)
    op.create_index("ix_shared_block_total_capacity", "shared_block", ["total_capacity"], unique=False)
    op.create_index("ix_shared_block_type", "shared_block", ["type"], unique=False)

    op.create_table(
        "shared_block_host_id",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("primary_storage_uuid", sa.String(length=32), nullable=False),
        sa.Column("host_uuid", sa.String(length=32), nullable=False),
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["primary_storage_uuid"],
            ["primary_storage.uuid"],
            name=op.f("fk_shared_block_host_id_primary_storage_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_shared_block_host_id")),
        sa.UniqueConstraint(
            "primary_storage_uuid",
            "host_id",
            name=op.f("uq_shared_block_host_id_primary_storage_uuid_host_id"),
        ),
        sa.UniqueConstraint(
            "primary_storage_uuid",
            "host_uuid",
            name=op.f("uq_shared_block_host_id_primary_storage_uuid_host_uuid"),
        ),
        sa.UniqueConstraint("uuid", name=op.f("uq_shared_block_host_id_uuid")),
    )
    op.create_index(
        "ix_shared_block_host_id_create_date", "shared_block_host_id", ["create_date"], unique=False
    )

    op.create_table(
        "volume",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("primary_storage_uuid", sa.String(length=32), nullable=True),
        sa.Column("vm_instance_uuid", sa.String(length=32), nullable=True),
        sa.Column("disk_offering_uuid", sa.String(length=32), nullable=True),
        sa.Column("root_image_uuid", sa.String(length=32), nullable=True),
        sa.Column("install_path", sa.String(length=2048), nullable=True),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("actual_size", sa.BigInteger(), nullable=True),
        sa.Column("device_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("is_shareable", sa.Boolean(), nullable=False),
        sa.Column("host_uuid", sa.String(length=32), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("backing_path", sa.Text(), nullable=True),
        sa.Column("parent_uuid", sa.String(length=32), nullable=True),
        sa.Column("tree_uuid", sa.String(length=32), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["primary_storage_uuid"], ["primary_storage.uuid"], name=op.f("fk_volume_primary_storage_uuid")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_volume")),
        sa.UniqueConstraint("uuid", name=op.f("uq_volume_uuid")),
    )
    op.create_index("ix_volume_actual_size", "volume", ["actual_size"], unique=False)
    op.create_index("ix_volume_create_date", "volume", ["create_date"], unique=False)
    op.create_index("ix_volume_device_id", "volume", ["device_id"], unique=False)
    op.create_index("ix_volume_disk_offering_uuid", "volume", ["disk_offering_uuid"], unique=False)
    op.create_index("ix_volume_format", "volume", ["format"], unique=False)
    op.create_index("ix_volume_host_uuid", "volume", ["host_uuid"], unique=False)
    op.create_index("ix_volume_install_path", "volume", ["install_path"], unique=False)
    op.create_index("ix_volume_name", "volume", ["name"], unique=False)
    op.create_index("ix_volume_primary_storage_uuid", "volume", ["primary_storage_uuid"], unique=False)
    op.create_index("ix_volume_root_image_uuid", "volume", ["root_image_uuid"], unique=False)
    op.create_index("ix_volume_size", "volume", ["size"], unique=False)
    op.create_index("ix_volume_state", "volume", ["state"], unique=False)
    op.create_index("ix_volume_status", "volume", ["status"], unique=False)
    op.create_index("ix_volume_type", "volume", ["type"], unique=False)
    op.create_index("ix_volume_vm_instance_uuid", "volume", ["vm_instance_uuid"], unique=False)

    op.create_table(
        "block_device",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("host_uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("parent", sa.String(length=128), nullable=True),
        sa.Column("transport", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("wwid", sa.String(length=255), nullable=True),
        sa.Column("vendor", sa.String(length=255), nullable=True),
        sa.Column("model", sa.String(length=255), nullable=True),
        sa.Column("serial", sa.String(length=255), nullable=True),
        sa.Column("rotational", sa.Boolean(), nullable=False),
        sa.Column("read_only", sa.Boolean(), nullable=False),
        sa.Column("removable", sa.Boolean(), nullable=False),
        sa.Column("pci_device_address", sa.String(length=32), nullable=True),
        sa.Column("mounts", sa.JSON(), nullable=False),
        sa.Column("holders", sa.JSON(), nullable=False),
        sa.Column("address", sa.String(length=128), nullable=True),
        sa.Column("identity", sa.JSON(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_uuid"], ["host.uuid"], name=op.f("fk_block_device_host_uuid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_block_device")),
        sa.UniqueConstraint("uuid", name=op.f("uq_block_device_uuid")),
    )
    op.create_index("ix_block_device_create_date", "block_device", ["create_date"], unique=False)
    op.create_index("ix_block_device_host_uuid", "block_device", ["host_uuid"], unique=False)
    op.create_index("ix_block_device_model", "block_device", ["model"], unique=False)
    op.create_index("ix_block_device_name", "block_device", ["name"], unique=False)
    op.create_index(
        "ix_block_device_pci_device_address", "block_device", ["pci_device_address"], unique=False
    )
    op.create_index("ix_block_device_serial", "block_device", ["serial"], unique=False)
    op.create_index("ix_block_device_size", "block_device", ["size"], unique=False)
    op.create_index("ix_block_device_transport", "block_device", ["transport"], unique=False)
    op.create_index("ix_block_device_wwid", "block_device", ["wwid"], unique=False)

    op.create_table(
        "host_address",
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("host_uuid", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_uuid"], ["host.uuid"], name=op.f("fk_host_address_host_uuid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_host_address")),
    )
    op.create_index("ix_host_address_host_uuid", "host_address", ["host_uuid"], unique=False)

    op.create_table(
        "host_holding",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("host_uuid", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=32), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_uuid"], ["host.uuid"], name=op.f("fk_host_holding_host_uuid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_host_holding")),
        sa.UniqueConstraint(
            "host_uuid", "kind", "subject", name=op.f("uq_host_holding_host_uuid_kind_subject")
        ),
    )

    op.create_table(
        "host_iommu",
        sa.Column("host_uuid", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_uuid"], ["host.uuid"], name=op.f("fk_host_iommu_host_uuid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_uuid", name=op.f("pk_host_iommu")),
    )
    op.create_table(
        "ip_range",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("l3_network_uuid", sa.String(length=32), nullable=False),
        sa.Column("start_ip", sa.String(length=64), nullable=False),
        sa.Column("end_ip", sa.String(length=64), nullable=False),
        sa.Column("netmask", sa.String(length=64), nullable=False),
        sa.Column("gateway", sa.String(length=64), nullable=False),
        sa.Column("network_cidr", sa.String(length=64), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["l3_network_uuid"], ["l3_network.uuid"], name=op.f("fk_ip_range_l3_network_uuid")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_ip_range")),
        sa.UniqueConstraint("uuid", name=op.f("uq_ip_range_uuid")),
    )
    op.create_index("ix_ip_range_create_date", "ip_range", ["create_date"], unique=False)
    op.create_index("ix_ip_range_end_ip", "ip_range", ["end_ip"], unique=False)
    op.create_index("ix_ip_range_l3_network_uuid", "ip_range", ["l3_network_uuid"], unique=False)
    op.create_index("ix_ip_range_name", "ip_range", ["name"], unique=False)
    op.create_index("ix_ip_range_network_cidr", "ip_range", ["network_cidr"], unique=False)
    op.create_index("ix_ip_range_start_ip", "ip_range", ["start_ip"], unique=False)

    op.create_table(
        "iscsi_server_host_ref",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("iscsi_server_uuid", sa.String(length=32), nullable=False),
        sa.Column("host_uuid", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("paths", sa.Integer(), nullable=False),
        sa.Column("failed_paths", sa.Integer(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_uuid"], ["host.uuid"], name=op.f("fk_iscsi_server_host_ref_host_uuid"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["iscsi_server_uuid"],
            ["iscsi_server.uuid"],
            name=op.f("fk_iscsi_server_host_ref_iscsi_server_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_iscsi_server_host_ref")),
        sa.UniqueConstraint(
            "iscsi_server_uuid",
            "host_uuid",
            name=op.f("uq_iscsi_server_host_ref_iscsi_server_uuid_host_uuid"),
        ),
        sa.UniqueConstraint("uuid", name=op.f("uq_iscsi_server_host_ref_uuid")),
    )
    op.create_index(
        "ix_iscsi_server_host_ref_create_date", "iscsi_server_host_ref", ["create_date"], unique=False
    )
    op.create_index(
        "ix_iscsi_server_host_ref_failed_paths", "iscsi_server_host_ref", ["failed_paths"], unique=False
    )
    op.create_index(
        "ix_iscsi_server_host_ref_host_uuid", "iscsi_server_host_ref", ["host_uuid"], unique=False
    )
    op.create_index(
        "ix_iscsi_server_host_ref_iscsi_server_uuid",
        "iscsi_server_host_ref",
        ["iscsi_server_uuid"],
        unique=False,
    )
    op.create_index("ix_iscsi_server_host_ref_paths", "iscsi_server_host_ref", ["paths"], unique=False)
    op.create_index("ix_iscsi_server_host_ref_status", "iscsi_server_host_ref", ["status"], unique=False)

    op.create_table(
        "pci_device",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("host_uuid", sa.String(length=32), nullable=False),
        sa.Column("vm_instance_uuid", sa.String(length=32), nullable=True),
        sa.Column("vendor_id", sa.String(length=4), nullable=False),
        sa.Column("device_id", sa.String(length=4), nullable=False),
        sa.Column("subvendor_id", sa.String(length=4), nullable=False),
        sa.Column("subdevice_id", sa.String(length=4), nullable=False),
        sa.Column("pci_device_address", sa.String(length=32), nullable=True),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("meta_data", sa.JSON(), nullable=True),
        sa.Column("matched_pci_device_offering_ref", sa.JSON(), nullable=True),
        sa.Column("class_code", sa.String(length=6), nullable=True),
        sa.Column("driver", sa.String(length=64), nullable=True),
        sa.Column("iommu_group", sa.String(length=128), nullable=True),
        sa.Column("numa_node", sa.Integer(), nullable=True),
        sa.Column("boot_critical", sa.String(length=255), nullable=True),
        sa.Column("physical_function", sa.String(length=32), nullable=True),
        sa.Column("virtual_functions", sa.Integer(), nullable=True),
        sa.Column("max_virtual_functions", sa.Integer(), nullable=True),
        sa.Column("boot_driver", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=32), nullable=True),
        sa.Column("identity", sa.JSON(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_uuid"], ["host.uuid"], name=op.f("fk_pci_device_host_uuid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_pci_device")),
        sa.UniqueConstraint("uuid", name=op.f("uq_pci_device_uuid")),
    )
    op.create_index("ix_pci_device_boot_driver", "pci_device", ["boot_driver"], unique=False)
    op.create_index("ix_pci_device_class_code", "pci_device", ["class_code"], unique=False)
    op.create_index("ix_pci_device_create_date", "pci_device", ["create_date"], unique=False)
    op.create_index("ix_pci_device_device_id", "pci_device", ["device_id"], unique=False)
    op.create_index("ix_pci_device_driver", "pci_device", ["driver"], unique=False)
    op.create_index("ix_pci_device_host_uuid", "pci_device", ["host_uuid"], unique=False)
    op.create_index("ix_pci_device_iommu_group", "pci_device", ["iommu_group"], unique=False)
    op.create_index(
        "ix_pci_device_max_virtual_functions", "pci_device", ["max_virtual_functions"], unique=False
    )
    op.create_index("ix_pci_device_name", "pci_device", ["name"], unique=False)
    op.create_index("ix_pci_device_pci_device_address", "pci_device", ["pci_device_address"], unique=False)
    op.create_index("ix_pci_device_physical_function", "pci_device", ["physical_function"], unique=False)
    op.create_index("ix_pci_device_state", "pci_device", ["state"], unique=False)
    op.create_index("ix_pci_device_status", "pci_device", ["status"], unique=False)
    op.create_index("ix_pci_device_subdevice_id", "pci_device", ["subdevice_id"], unique=False)
    op.create_index("ix_pci_device_subvendor_id", "pci_device", ["subvendor_id"], unique=False)
    op.create_index("ix_pci_device_type", "pci_device", ["type"], unique=False)
    op.create_index("ix_pci_device_vendor_id", "pci_device", ["vendor_id"], unique=False)
    op.create_index("ix_pci_device_virtual_functions", "pci_device", ["virtual_functions"], unique=False)
    op.create_index("ix_pci_device_vm_instance_uuid", "pci_device", ["vm_instance_uuid"], unique=False)

    op.create_table(
        "primary_storage_host_ref",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("primary_storage_uuid", sa.String(length=32), nullable=False),
        sa.Column("host_uuid", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("ceph_client", sa.String(length=128), nullable=True),
        sa.Column("total_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("available_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_physical_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("available_physical_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("system_used_capacity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_uuid"],
            ["host.uuid"],
            name=op.f("fk_primary_storage_host_ref_host_uuid"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["primary_storage_uuid"],
            ["primary_storage.uuid"],
            name=op.f("fk_primary_storage_host_ref_primary_storage_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_primary_storage_host_ref")),
        sa.UniqueConstraint(
            "primary_storage_uuid",
            "host_uuid",
            name=op.f("uq_primary_storage_host_ref_primary_storage_uuid_host_uuid"),
        ),
        sa.UniqueConstraint("uuid", name=op.f("uq_primary_storage_host_ref_uuid")),
    )
    op.create_index(
        "ix_primary_storage_host_ref_available_capacity",
        "primary_storage_host_ref",
        ["available_capacity"],
        unique=False,
    )
    op.create_index(
        "ix_primary_storage_host_ref_available_physical_capacity",
        "primary_storage_host_ref",
        ["available_physical_capacity"],
        unique=False,
    )
    op.create_index(
        "ix_primary_storage_host_ref_create_date", "primary_storage_host_ref", ["create_date"], unique=False
    )
    op.create_index(
        "ix_primary_storage_host_ref_host_uuid", "primary_storage_host_ref", ["host_uuid"], unique=False
    )
    op.create_index(
        "ix_primary_storage_host_ref_primary_storage_uuid",
        "primary_storage_host_ref",
        ["primary_storage_uuid"],
        unique=False,
    )
    op.create_index(
        "ix_primary_storage_host_ref_status", "primary_storage_host_ref", ["status"], unique=False
    )
    op.create_index(
        "ix_primary_storage_host_ref_system_used_capacity",
        "primary_storage_host_ref",
        ["system_used_capacity"],
        unique=False,
    )
    op.create_index(
        "ix_primary_storage_host_ref_total_capacity",
        "primary_storage_host_ref",
        ["total_capacity"],
        unique=False,
    )
    op.create_index(
        "ix_primary_storage_host_ref_total_physical_capacity",
        "primary_storage_host_ref",
        ["total_physical_capacity"],
        unique=False,
    )

    op.create_table(
        "shared_block_host_ref",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("primary_storage_uuid", sa.String(length=32), nullable=False),
        sa.Column("host_uuid", sa.String(length=32), nullable=False),
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("lock_state", sa.String(length=32), nullable=True),
        sa.Column("reason", sa.String(length=512), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_uuid"], ["host.uuid"], name=op.f("fk_shared_block_host_ref_host_uuid"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["primary_storage_uuid"],
            ["primary_storage.uuid"],
            name=op.f("fk_shared_block_host_ref_primary_storage_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_shared_block_host_ref")),
        sa.UniqueConstraint(
            "primary_storage_uuid",
            "host_uuid",
            name=op.f("uq_shared_block_host_ref_primary_storage_uuid_host_uuid"),
        ),
        sa.UniqueConstraint("uuid", name=op.f("uq_shared_block_host_ref_uuid")),
    )
    op.create_index(
        "ix_shared_block_host_ref_create_date", "shared_block_host_ref", ["create_date"], unique=False
    )
    op.create_index("ix_shared_block_host_ref_host_id", "shared_block_host_ref", ["host_id"], unique=False)
    op.create_index(
        "ix_shared_block_host_ref_host_uuid", "shared_block_host_ref", ["host_uuid"], unique=False
    )
    op.create_index(
        "ix_shared_block_host_ref_lock_state", "shared_block_host_ref", ["lock_state"], unique=False
    )
    op.create_index(
        "ix_shared_block_host_ref_primary_storage_uuid",
        "shared_block_host_ref",
        ["primary_storage_uuid"],
        unique=False,
    )
    op.create_index("ix_shared_block_host_ref_reason", "shared_block_host_ref", ["reason"], unique=False)
    op.create_index("ix_shared_block_host_ref_status", "shared_block_host_ref", ["status"], unique=False)

    op.create_table(
        "usb_device",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("host_uuid", sa.String(length=32), nullable=False),
        sa.Column("vm_instance_uuid", sa.String(length=32), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("bus_num", sa.String(length=3), nullable=True),
        sa.Column("dev_num", sa.String(length=3), nullable=True),
        sa.Column("id_vendor", sa.String(length=4), nullable=False),
        sa.Column("id_product", sa.String(length=4), nullable=False),
        sa.Column("i_manufacturer", sa.String(length=255), nullable=False),
        sa.Column("i_product", sa.String(length=255), nullable=False),
        sa.Column("i_serial", sa.String(length=255), nullable=False),
        sa.Column("usb_version", sa.String(length=16), nullable=False),
        sa.Column("boot_critical", sa.String(length=255), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("identity", sa.JSON(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_uuid"], ["host.uuid"], name=op.f("fk_usb_device_host_uuid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_usb_device")),
        sa.UniqueConstraint("uuid", name=op.f("uq_usb_device_uuid")),
    )
    op.create_index("ix_usb_device_create_date", "usb_device", ["create_date"], unique=False)
    op.create_index("ix_usb_device_host_uuid", "usb_device", ["host_uuid"], unique=False)
    op.create_index("ix_usb_device_i_manufacturer", "usb_device", ["i_manufacturer"], unique=False)
    op.create_index("ix_usb_device_i_product", "usb_device", ["i_product"], unique=False)
    op.create_index("ix_usb_device_i_serial", "usb_device", ["i_serial"], unique=False)
    op.create_index("ix_usb_device_id_product", "usb_device", ["id_product"], unique=False)
    op.create_index("ix_usb_device_id_vendor", "usb_device", ["id_vendor"], unique=False)
    op.create_index("ix_usb_device_name", "usb_device", ["name"], unique=False)
    op.create_index("ix_usb_device_state", "usb_device", ["state"], unique=False)
    op.create_index("ix_usb_device_vm_instance_uuid", "usb_device", ["vm_instance_uuid"], unique=False)

    op.create_table(
        "vm_nic",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("vm_instance_uuid", sa.String(length=32), nullable=False),
        sa.Column("l3_network_uuid", sa.String(length=32), nullable=False),
        sa.Column("ip", sa.String(length=64), nullable=True),
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("netmask", sa.String(length=64), nullable=True),
        sa.Column("gateway", sa.String(length=64), nullable=True),
        sa.Column("meta_data", sa.Text(), nullable=True),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["l3_network_uuid"], ["l3_network.uuid"], name=op.f("fk_vm_nic_l3_network_uuid")
        ),
        sa.ForeignKeyConstraint(
            ["vm_instance_uuid"], ["vm_instance.uuid"], name=op.f("fk_vm_nic_vm_instance_uuid")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_vm_nic")),
        sa.UniqueConstraint("mac", name=op.f("uq_vm_nic_mac")),
        sa.UniqueConstraint("uuid", name=op.f("uq_vm_nic_uuid")),
    )
    op.create_index("ix_vm_nic_create_date", "vm_nic", ["create_date"], unique=False)
    op.create_index("ix_vm_nic_ip", "vm_nic", ["ip"], unique=False)
    op.create_index("ix_vm_nic_l3_network_uuid", "vm_nic", ["l3_network_uuid"], unique=False)
    op.create_index("ix_vm_nic_vm_instance_uuid", "vm_nic", ["vm_instance_uuid"], unique=False)

    op.create_table(
        "volume_snapshot",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=2048), nullable=True),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("volume_uuid", sa.String(length=32), nullable=False),
        sa.Column("tree_uuid", sa.String(length=32), nullable=False),
        sa.Column("parent_uuid", sa.String(length=32), nullable=True),
        sa.Column("primary_storage_uuid", sa.String(length=32), nullable=True),
        sa.Column("primary_storage_install_path", sa.Text(), nullable=True),
        sa.Column("volume_type", sa.String(length=16), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("latest", sa.Boolean(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("backing_path", sa.Text(), nullable=True),
        sa.Column("create_date", sa.BigInteger(), nullable=False),
        sa.Column("last_op_date", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["volume_uuid"], ["volume.uuid"], name=op.f("fk_volume_snapshot_volume_uuid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_volume_snapshot")),
        sa.UniqueConstraint("uuid", name=op.f("uq_volume_snapshot_uuid")),
    )
    op.create_index("ix_volume_snapshot_create_date", "volume_snapshot", ["create_date"], unique=False)
    op.create_index("ix_volume_snapshot_format", "volume_snapshot", ["format"], unique=False)
    op.create_index("ix_volume_snapshot_latest", "volume_snapshot", ["latest"], unique=False)
    op.create_index("ix_volume_snapshot_name", "volume_snapshot", ["name"], unique=False)
    op.create_index("ix_volume_snapshot_parent_uuid", "volume_snapshot", ["parent_uuid"], unique=False)
    op.create_index(
        "ix_volume_snapshot_primary_storage_uuid", "volume_snapshot", ["primary_storage_uuid"], unique=False
    )
    op.create_index("ix_volume_snapshot_size", "volume_snapshot", ["size"], unique=False)
    op.create_index("ix_volume_snapshot_state", "volume_snapshot", ["state"], unique=False)
    op.create_index("ix_volume_snapshot_status", "volume_snapshot", ["status"], unique=False)
    op.create_index("ix_volume_snapshot_tree_uuid", "volume_snapshot", ["tree_uuid"], unique=False)
    op.create_index("ix_volume_snapshot_volume_uuid", "volume_snapshot", ["volume_uuid"], unique=False)

    op.create_table(
        "pci_device_offering_ref",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("pci_device_uuid", sa.String(length=32), nullable=False),
        sa.Column("pci_device_offering_uuid", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["pci_device_offering_uuid"],
            ["pci_device_offering.uuid"],
            name=op.f("fk_pci_device_offering_ref_pci_device_offering_uuid"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["pci_device_uuid"],
            ["pci_device.uuid"],
            name=op.f("fk_pci_device_offering_ref_pci_device_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_pci_device_offering_ref")),
        sa.UniqueConstraint(
            "pci_device_uuid",
            "pci_device_offering_uuid",
            name=op.f("uq_pci_device_offering_ref_pci_device_uuid_pci_device_offering_uuid"),
        ),
        sa.UniqueConstraint("uuid", name=op.f("uq_pci_device_offering_ref_uuid")),
    )
    op.create_index(
        "ix_pci_device_offering_ref_pci_device_offering_uuid",
        "pci_device_offering_ref",
        ["pci_device_offering_uuid"],
        unique=False,
    )
    op.create_index(
        "ix_pci_device_offering_ref_pci_device_uuid",
        "pci_device_offering_ref",
        ["pci_device_uuid"],
        unique=False,
    )

    op.create_table(
        "used_ip",
        sa.Column("vm_nic_uuid", sa.String(length=32), nullable=False),
        sa.Column("l3_network_uuid", sa.String(length=32), nullable=False),
        sa.Column("ip_range_uuid", sa.String(length=32), nullable=False),
        sa.Column("ip", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["ip_range_uuid"], ["ip_range.uuid"], name=op.f("fk_used_ip_ip_range_uuid"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["l3_network_uuid"],
            ["l3_network.uuid"],
            name=op.f("fk_used_ip_l3_network_uuid"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("vm_nic_uuid", name=op.f("pk_used_ip")),
        sa.UniqueConstraint("l3_network_uuid", "ip", name=op.f("uq_used_ip_l3_network_uuid_ip")),
    )
    op.create_index("ix_used_ip_ip_range_uuid", "used_ip", ["ip_range_uuid"], unique=False)
