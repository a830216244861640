"""Shared-block storages: volume groups on LUNs that several hosts have, by LVM with lvmlockd and sanlock."""
