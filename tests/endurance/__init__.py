"""Loads that last: what the sidecar promises under reloads, restarts, time, attacks and overload, run by hand."""
