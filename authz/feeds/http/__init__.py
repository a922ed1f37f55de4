"""HTTP GET with bounds on everything: trust, connection, response."""
