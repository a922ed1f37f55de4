"""Checks of a configuration beyond the types of its values.

A check is a function from the whole configuration to the problems that it finds. All checks run, so that all problems
are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from authz.config.checks.bounds import check_bounds, check_intervals
from authz.config.checks.dpop import check_dpop, check_nonces, check_proof_headers
from authz.config.checks.exchange import check_exchange
from authz.config.checks.identity import check_headers, check_metadata
from authz.config.checks.introspection import check_introspection
from authz.config.checks.issuers import check_issuers
from authz.config.checks.listeners import check_admin, check_ports, check_server, check_version
from authz.config.checks.rules import check_rules
from authz.config.checks.signing import check_signing
from authz.config.checks.tenants import check_tenants
from authz.config.checks.tokens import check_query_token, check_resource, check_responses, check_sources
from authz.config.checks.upstream_token import check_rotation, check_upstream_token
from authz.config.model import Config
from authz.config.problems import Problem

CHECKS: Final = (
    check_version,
    check_bounds,
    check_intervals,
    check_server,
    check_admin,
    check_ports,
    check_issuers,
    check_introspection,
    check_tenants,
    check_sources,
    check_query_token,
    check_dpop,
    check_nonces,
    check_proof_headers,
    check_rules,
    check_headers,
    check_metadata,
    check_signing,
    check_upstream_token,
    check_exchange,
    check_rotation,
    check_responses,
    check_resource,
)


def check(config: Config) -> Iterator[Problem]:
    """Yield everything that is wrong with *config*."""
    for find_problems in CHECKS:
        yield from find_problems(config)
