"""Ceph clusters: their monitors and the agents beside them, which primary and backup storages share."""
