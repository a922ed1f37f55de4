"""What Envoy must be told: pieces of its configuration that fit ours, and what in somebody's own lets requests by."""
