"""Generate the Envoy configuration for a sidecar, and check a given one for ways to bypass the sidecar."""
