"""Several parts together: the real process, and faults injected below a real Envoy."""
