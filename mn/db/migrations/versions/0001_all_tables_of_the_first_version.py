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
        "host_iommu",
        sa.Column("host_uuid", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_uuid"], ["host.uuid"], name=op.f("fk_host_iommu_host_uuid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_uuid", name=op.f("pk_host_iommu")),
    )
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
    op.create_index("ix_pci_device_class_code", "pci_device", ["class_code"], unique=False)
    op.create_index("ix_pci_device_create_date", "pci_device", ["create_date"], unique=False)
    op.create_index("ix_pci_device_device_id", "pci_device", ["device_id"], unique=False)
    op.create_index("ix_pci_device_driver", "pci_device", ["driver"], unique=False)
    op.create_index("ix_pci_device_host_uuid", "pci_device", ["host_uuid"], unique=False)
    op.create_index("ix_pci_device_iommu_group", "pci_device", ["iommu_group"], unique=False)
    op.create_index("ix_pci_device_name", "pci_device", ["name"], unique=False)
    op.create_index("ix_pci_device_pci_device_address", "pci_device", ["pci_device_address"], unique=False)
    op.create_index("ix_pci_device_state", "pci_device", ["state"], unique=False)
    op.create_index("ix_pci_device_status", "pci_device", ["status"], unique=False)
    op.create_index("ix_pci_device_subdevice_id", "pci_device", ["subdevice_id"], unique=False)
    op.create_index("ix_pci_device_subvendor_id", "pci_device", ["subvendor_id"], unique=False)
    op.create_index("ix_pci_device_type", "pci_device", ["type"], unique=False)
    op.create_index("ix_pci_device_vendor_id", "pci_device", ["vendor_id"], unique=False)
    op.create_index("ix_pci_device_vm_instance_uuid", "pci_device", ["vm_instance_uuid"], unique=False)

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
