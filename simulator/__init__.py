"""A fleet of hosts that do not exist: the KVM agent on recorded machines, thousands of them in a process."""
