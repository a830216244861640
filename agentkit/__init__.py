"""What every Hardpoint daemon shares: errors, wire types, TLS, HTTPS server, task journal, command runner."""
