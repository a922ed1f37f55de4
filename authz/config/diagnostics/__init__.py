"""For the author of a configuration: all problems of a file in one run, and likely mistakes in a valid one."""

from __future__ import annotations
