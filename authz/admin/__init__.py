"""The admin port: plain HTTP for probes, scrapers and operators, apart from the port that Envoy calls."""
