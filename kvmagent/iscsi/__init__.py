"""iSCSI sessions of a host: a ledger of who needs which portal, and what keeps it true."""
