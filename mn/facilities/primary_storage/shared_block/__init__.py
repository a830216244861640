"""Shared-block storages (manual 4.4.19): volume groups on LUNs that the hosts of a cluster share."""
