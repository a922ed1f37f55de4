"""Key sets in the shapes that providers publish, read by our core and by Envoy's jwt_authn."""
