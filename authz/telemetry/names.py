"""Every name that operators build on, once: metrics and fields of log lines."""

from __future__ import annotations

from typing import Final

DECISIONS_TOTAL: Final = "authz_decisions"
CHECK_DURATION_SECONDS: Final = "authz_check_duration_seconds"
BUILD_INFO: Final = "authz_build"
INSECURE_OPTIONS: Final = "authz_insecure_options"

# Seconds; the lower ones are where a healthy sidecar answers, the upper ones where Envoy's timeout lies (200 ms).
DURATION_BUCKETS: Final = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0,
)  # fmt: skip
