"""iSCSI servers (manual 4.6): their targets and LUNs, the clusters whose hosts log in to them."""
