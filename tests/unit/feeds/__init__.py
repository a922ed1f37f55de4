"""Proofs of the feeds, without sockets: time goes when a test lets it go."""
