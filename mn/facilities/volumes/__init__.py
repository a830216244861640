"""Volumes and their snapshots: disk images on primary storages."""
