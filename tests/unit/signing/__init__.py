"""Proves authz.signing."""
