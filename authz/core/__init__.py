"""Judgement: from a request, a snapshot and an instant to a decision.

Nothing in this package does I/O, reads a clock, starts a thread or logs. What it needs to know is in its arguments.
"""
