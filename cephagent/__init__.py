"""The agent beside a Ceph monitor: pools, capacity, keys, and the images of a Ceph backup storage."""
