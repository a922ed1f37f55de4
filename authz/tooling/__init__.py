"""What an operator asks beside the server: explain a decision, compare configurations, fit Envoy, probe issuers."""

from __future__ import annotations
