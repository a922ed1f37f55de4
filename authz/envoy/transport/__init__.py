"""The transport below the service: a port and its two implementations."""
