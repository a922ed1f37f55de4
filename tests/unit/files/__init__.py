"""Proofs of what the sidecar makes of files and sockets that change while it runs."""
