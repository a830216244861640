"""PCI functions that VMs have: planned, bound to vfio-pci, given back."""
