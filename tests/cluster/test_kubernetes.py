"""Proves deploy/recipes/kubernetes.yaml against tokens of a real API server, by the keys that it publishes."""

from __future__ import annotations
