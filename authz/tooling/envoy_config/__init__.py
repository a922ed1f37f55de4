"""The Envoy configuration that fits ours, and what in a given one lets requests bypass the sidecar."""
