"""Every name that operators build on, once: metrics and fields of log lines."""

from __future__ import annotations

from typing import Final

DECISIONS_TOTAL: Final = "authz_decisions"
CHECK_DURATION_SECONDS: Final = "authz_check_duration_seconds"
BUILD_INFO: Final = "authz_build"
INSECURE_OPTIONS: Final = "authz_insecure_options"
CONFIG_RELOADS_TOTAL: Final = "authz_config_reloads"
KEYS_REFRESH_TOTAL: Final = "authz_keys_refresh"
KEYS_LAST_SUCCESS_TIMESTAMP_SECONDS: Final = "authz_keys_last_success_timestamp_seconds"
KEYS_COUNT: Final = "authz_keys_count"
KEYS_REJECTED_COUNT: Final = "authz_keys_rejected_count"
KEYS_SECRETS_PUBLISHED: Final = "authz_keys_secrets_published"
KEYS_UNKNOWN_KID_TOTAL: Final = "authz_keys_unknown_kid"
KEYS_FLAP_TOTAL: Final = "authz_keys_jwks_flap"

# Seconds; the lower ones are where a healthy sidecar answers, the upper ones where Envoy's timeout lies (200 ms).
DURATION_BUCKETS: Final = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0,
)  # fmt: skip
