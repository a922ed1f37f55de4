"""Attacks that cannot be listed: properties over generated input."""
