"""Envoy's ext_authz protocol over gRPC: transport, codec, and the gathering of facts for decisions."""
