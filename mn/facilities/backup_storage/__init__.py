"""Backup storages (manual 4.5): servers that keep images."""
