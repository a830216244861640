"""Images: what VMs and volumes are made of, and on which backup storages they lie."""
