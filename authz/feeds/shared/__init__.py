"""State that replicas share, in a Valkey or Redis server."""
