"""Real servers of others that are too heavy for every run: `make peers` fetches them and runs these tests."""
