"""The management node: holds the wanted state of the fleet and serves the REST API."""
