"""The decision: a pure function of a request, a snapshot and an instant.

Nothing in this package does I/O, reads a clock, starts a thread or logs. All of its input is in its arguments.
"""
