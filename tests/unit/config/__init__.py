"""Tests of the configuration file."""

from __future__ import annotations
