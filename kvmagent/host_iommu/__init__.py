"""The IOMMU on the kernel's command line: read, planned purely, written so that it can go back."""
