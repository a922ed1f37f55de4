"""Proves every page: its links, its configurations, its commands, and what it says of the code."""
