"""Storages on a host: directories, mounts, disk images; what may hang is done by processes of their own."""
