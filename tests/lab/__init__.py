"""The lab: QEMU guests that stand for KVM hosts and a storage server, in a network namespace of their own."""
