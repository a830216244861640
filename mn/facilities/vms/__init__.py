"""Virtual machines (the manual's neighbours of hosts): rows here, domains on the hosts."""
