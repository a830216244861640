"""The hosts as seen from the management node."""
