"""Ceph storages: images of VMs as RBD images of a cluster."""
