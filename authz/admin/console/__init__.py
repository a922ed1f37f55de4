"""Pages for people on the admin port: what runs, why a request was denied, and what to do. Read-only by default."""
