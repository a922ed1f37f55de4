"""Proofs of how the process starts, reloads, becomes ready and ends."""
