"""The agent on a KVM host: says what hardware the host has and does what the management node asks."""
