"""PCI devices: what the hosts show, who has them, their offerings, and the hosts' IOMMU."""
