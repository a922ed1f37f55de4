"""The names that operators depend on: metrics, spans and their attributes."""

from __future__ import annotations

from typing import Final

# Metrics, without the suffixes that their type adds: _total for counters, _info for infos.
DECISIONS_TOTAL: Final = "authz_decisions"
CHECK_DURATION_SECONDS: Final = "authz_check_duration_seconds"
CHECKS_IN_FLIGHT: Final = "authz_checks_in_flight"
CHECKS_CANCELLED_TOTAL: Final = "authz_checks_cancelled"
SIGNATURE_CACHE_REQUESTS_TOTAL: Final = "authz_signature_cache_requests"
CLIENT_FAILURES_MAX: Final = "authz_client_failures_max"
LINES_SUMMARISED_TOTAL: Final = "authz_log_lines_summarised"
LINES_LOST_TOTAL: Final = "authz_log_lines_lost"
REPORTS_FAILED_TOTAL: Final = "authz_reports_failed"
SPANS_DROPPED_TOTAL: Final = "authz_spans_dropped"
LOG_RECORDS_DROPPED_TOTAL: Final = "authz_log_records_dropped"
BUILD_INFO: Final = "authz_build"
CONFIG_INFO: Final = "authz_config"
TRANSPORT_INFO: Final = "authz_transport"
CONFIG_RELOADS_TOTAL: Final = "authz_config_reloads"
CONFIG_RELOAD_SUCCESSFUL: Final = "authz_config_last_reload_successful"
INSECURE_OPTIONS: Final = "authz_insecure_options"
KEYS_REFRESH_TOTAL: Final = "authz_keys_refresh"
KEYS_REFRESH_DURATION_SECONDS: Final = "authz_keys_refresh_duration_seconds"
KEYS_LAST_SUCCESS_TIMESTAMP_SECONDS: Final = "authz_keys_last_success_timestamp_seconds"
KEYS_COUNT: Final = "authz_keys_count"
KEYS_REJECTED_COUNT: Final = "authz_keys_rejected_count"
KEYS_NOTED_COUNT: Final = "authz_keys_noted_count"
KEYS_SECRETS_PUBLISHED: Final = "authz_keys_secrets_published"
KEYS_UNKNOWN_KID_TOTAL: Final = "authz_keys_unknown_kid"
KEYS_UNANSWERED_TOTAL: Final = "authz_keys_unanswered"
KEYS_FLAP_TOTAL: Final = "authz_keys_jwks_flap"
FACTS_TOTAL: Final = "authz_facts"
FACTS_DURATION_SECONDS: Final = "authz_facts_duration_seconds"
THROTTLED_TOTAL: Final = "authz_throttled"
THROTTLED_NETWORKS: Final = "authz_throttled_networks"
REVOCATIONS: Final = "authz_revocations"
REVOCATION_EVENTS_TOTAL: Final = "authz_revocation_events"
REVOCATION_REFRESH_TOTAL: Final = "authz_revocation_refresh"
REVOCATION_LAST_SUCCESS_TIMESTAMP_SECONDS: Final = "authz_revocation_last_success_timestamp_seconds"
REVOCATION_REJECTED_ENTRIES: Final = "authz_revocation_rejected_entries"
REVOCATIONS_UNSHARED: Final = "authz_revocations_unshared"
SIGNING_KEYS: Final = "authz_signing_keys"
SIGNING_STARTED: Final = "authz_signing_key_started_timestamp_seconds"
SIGNING_DUE: Final = "authz_signing_key_due_timestamp_seconds"
SIGNING_FAILING: Final = "authz_signing_keys_failing"
WORKER_UP: Final = "authz_worker_up"
WORKER_RESTARTS_TOTAL: Final = "authz_worker_restarts"

# Seconds, from the normal durations up to more than Envoy's default timeout of 200 ms.
DURATION_BUCKETS: Final = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0,
)  # fmt: skip

# Seconds; a fetch ends at `fetch.timeout`, by default 5 s.
REFRESH_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# Spans. Names outside `authz.*` are those of OpenTelemetry's semantic conventions (rpc, http, error).
CHECK_SPAN: Final = "envoy.service.auth.v3.Authorization/Check"
REFRESH_SPAN: Final = "authz.keys.refresh"

RPC_SYSTEM_NAME: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_RESPONSE_STATUS_CODE: Final = "rpc.response.status_code"
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
ERROR_TYPE: Final = "error.type"
DECISION: Final = "authz.decision"
REASON: Final = "authz.reason"
DECISION_ID: Final = "authz.decision_id"
RULE: Final = "authz.rule"
ISSUER: Final = "authz.issuer"
TOKEN_ALG: Final = "authz.token.alg"
TOKEN_KID: Final = "authz.token.kid"
PROOF_THUMBPRINT: Final = "authz.proof.thumbprint"
PDP: Final = "authz.pdp"
TOKEN_EXPIRED_FOR_S: Final = "authz.token.expired_for_s"
KEYS_AGE_S: Final = "authz.keys.age_s"
KEYS_REFRESH_RESULT: Final = "authz.keys.refresh.result"
SIGNATURE_CACHE: Final = "authz.signature_cache"
