"""Hosts (manual 4.3.1 to 4.3.10)."""
