"""Envoy's ext_authz protocol over gRPC. Nothing here makes a decision."""
