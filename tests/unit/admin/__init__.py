"""Proofs of the admin port."""
