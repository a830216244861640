"""Readers of a machine: pure functions of a file tree, no commands."""
