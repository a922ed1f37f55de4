"""The admin port: plain HTTP for probes, scrapers and operators, separate from the port that Envoy calls."""
