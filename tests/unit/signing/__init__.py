"""Proofs of the keys that sign what the sidecar issues."""
