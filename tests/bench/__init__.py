"""Measurements that are run by hand: they prove nothing, and print."""
