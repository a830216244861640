"""Networks of VMs: L2 networks are bridges on hosts, L3 networks have addresses."""
