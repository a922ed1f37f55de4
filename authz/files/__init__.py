"""Files that are replaced while the sidecar runs, and stale Unix sockets."""
