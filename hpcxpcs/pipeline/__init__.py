"""The drivers behind the commands: they put configuration, data, physics and results together."""
