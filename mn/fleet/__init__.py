"""The hosts as seen from the management node: certificates, links, calls, deployment, SSH."""
