"""USB devices of the host that VMs have: found by identity, kept through replugging."""
