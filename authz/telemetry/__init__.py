"""Metrics, logs and spans. They contain no token, and no metric label has a value from a request."""
