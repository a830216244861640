"""The bridges that VMs are connected to: planned, done by a child, undone unless confirmed."""
