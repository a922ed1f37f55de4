"""Proves authz.facts."""
