"""Telemetry: metrics, log lines and spans of decisions. Never a token, never a label value from a request."""
