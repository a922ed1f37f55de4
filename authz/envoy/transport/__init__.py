"""The transport under the service: a port, and two ways to fill it."""
