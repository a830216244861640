"""Accounts and their sessions (manual 3.7)."""
