"""A real Ceph cluster of the tests' own, in user space: its programs, its daemons, what is made on it."""
