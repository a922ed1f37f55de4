"""The file system while the sidecar runs: files that are replaced, sockets that are left behind."""
