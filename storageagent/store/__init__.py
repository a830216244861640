"""The repository on disk: chunks, manifests, imports that were begun, and the collection of garbage."""
