"""The agent of an image store's server: a chunked, deduplicated, checksummed repository of disk images."""
