"""Measurements of Hardpoint beside its peers: `python -m bench` lists them, each prints one table."""
