"""Other authorization servers for Envoy, set up for the same decisions as the sidecar, to measure beside it."""
