"""The process: start, readiness, reload, drain and exit, with one process or several workers."""
