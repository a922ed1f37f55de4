"""Proofs of the console."""
