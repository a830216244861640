"""The client side: a REST client and the `hardpoint` command."""
