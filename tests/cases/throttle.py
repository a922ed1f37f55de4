"""L: networks that are slowed down. Who passes nevertheless is in tests/unit/core/test_throttle.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from authz.core.needs import Facts, Need
from authz.core.reasons import Reason
from authz.core.throttle import ACCEPTED, THROTTLE, TOKEN, ClientRules, Throttle, Throttled, digest_token
from tests.cases.case import Case, case
from tests.fixtures import DEFAULT_SNAPSHOT, mint

OFFICE: Final = "192.0.2.1"
GOOD: Final = mint()
GUARDED: Final = replace(DEFAULT_SNAPSHOT, clients=ClientRules(throttle=Throttle(failures=20, window=60.0)))
SHADOW: Final = replace(DEFAULT_SNAPSHOT, clients=ClientRules(throttle=Throttle(failures=20, window=60.0, shadow=True)))
SLOW: Final[Facts] = {Need(THROTTLE, "clients", OFFICE): Throttled(3.0)}
KNOWN: Final[Facts] = {**SLOW, Need(ACCEPTED, TOKEN, digest_token(GOOD)): True}

CASES: Final[list[Case]] = [
    case("slow-L01", Reason.THROTTLED, GOOD, snapshot=GUARDED, facts=SLOW, source_address=OFFICE),
    case("slow-garbage-L02", Reason.THROTTLED, "garbage", snapshot=GUARDED, facts=SLOW, source_address=OFFICE),
    case("slow-and-known-L03", Reason.AUTHENTICATED, GOOD, snapshot=GUARDED, facts=KNOWN, source_address=OFFICE),
    case("slow-elsewhere-L04", Reason.AUTHENTICATED, GOOD, snapshot=GUARDED, facts=SLOW, source_address="192.0.2.2"),
    case("slow-in-shadow-L05", Reason.AUTHENTICATED, GOOD, snapshot=SHADOW, facts=SLOW, source_address=OFFICE),
    case("slow-no-token-L06", Reason.TOKEN_MISSING, snapshot=GUARDED, facts=SLOW, source_address=OFFICE),
    case("slow-public-L07", Reason.PUBLIC, GOOD, snapshot=GUARDED, facts=SLOW, source_address=OFFICE, path="/public/x"),
]
