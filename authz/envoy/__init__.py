"""The wire: Envoy's ext_authz protocol over gRPC, and nothing that judges."""
