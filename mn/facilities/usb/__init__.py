"""USB devices: what the hosts show, who has them."""
