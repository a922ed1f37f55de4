"""Charts, recipes and manifests against a real Kubernetes API server, for `make cluster`."""
