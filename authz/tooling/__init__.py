"""Tools for operators: explain a decision, compare configurations, configure Envoy, probe issuers."""

from __future__ import annotations
