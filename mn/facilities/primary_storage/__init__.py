"""Primary storages (manual 4.4): where volumes are; their types, their capacity, the hosts that use them."""
