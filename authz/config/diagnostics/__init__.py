"""Diagnostics for the author of a configuration: all errors of a file at once, and warnings about a valid one."""

from __future__ import annotations
