"""Every way to break a Check: what may be raised, and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Any, cast

from authz.core.claims import Claims
from authz.core.decision import Allow, AuditTrail
from authz.core.keys import VerifySignature
from authz.core.policy import Policy
from authz.core.reasons import Reason
from authz.core.request import Request
from authz.core.snapshot import Snapshot
from tests.fixtures import DEFAULT_SNAPSHOT, issuer_a, key_set, make_snapshot, rule
from tests.unit.envoy.asking import AFTER, NEW, FakeLane, StillGatherer, raiser, read, told

SECRET = "the text of an exception"


class Unheard(BaseException):
    """An exception that no one thinks of catching."""


class Unprintable(Exception):
    """An exception that cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError(SECRET)


ERRORS = (
    ValueError(SECRET),
    MemoryError(SECRET),
    RecursionError(SECRET),
    CancelledError(SECRET),
    TimeoutError(SECRET),
    KeyboardInterrupt(SECRET),
    SystemExit(SECRET),
    GeneratorExit(SECRET),
    Unheard(SECRET),
    Unprintable(),
)


class Broken:
    """Whatever is asked of it raises."""

    def __init__(self, error: BaseException) -> None:
        object.__setattr__(self, "error", error)

    def __getattr__(self, name: str) -> object:
        raise cast("BaseException", object.__getattribute__(self, "error"))


def broken_policy(error: BaseException) -> Policy:
    """Return rules that break where they are compared with a request."""
    usual = rule("r", "/items/**")
    match = replace(usual.match, context=cast("Mapping[str, str]", Broken(error)))
    return Policy([replace(usual, match=match)])


@dataclass(frozen=True)
class BrokenCondition:
    """A rule's condition that raises."""

    error: BaseException

    def holds(self, request: Request, params: dict[str, str], claims: Claims) -> bool:
        raise self.error


class BrokenLane(FakeLane):
    """A lane that breaks at one of its methods."""

    def __init__(self, error: BaseException, *, at: str) -> None:
        super().__init__()
        setattr(self, at, raiser(error))


class BrokenGatherer(StillGatherer):
    """What should gather and does not."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(key=FakeLane())
        self._error = error

    def gather(self, needs: object, seconds: object, resume: object) -> None:
        raise self._error


def second(error: BaseException) -> Callable[[], Snapshot]:
    """Return what gives a snapshot once, and then raises."""
    snapshots = iter([DEFAULT_SNAPSHOT])

    def snapshot() -> Snapshot:
        try:
            return next(snapshots)
        except StopIteration:
            raise error from None

    return snapshot


def broken_verify(error: BaseException) -> VerifySignature:
    """Return a signature check that raises."""
    return cast("VerifySignature", raiser(error))


def broken_decision(error: BaseException) -> Allow:
    """Return an allow that cannot be encoded."""
    return Allow(reason=Reason.PUBLIC, trail=AuditTrail(), claims=cast("Mapping[str, object]", Broken(error)))


def fixed(snapshot: Snapshot) -> dict[str, Any]:
    """Make *snapshot* the part of a Checker."""
    return {"snapshot": lambda: snapshot}


# Where each error is injected: the parts of a Checker that raises it there.
STAGES: dict[str, Callable[[BaseException], dict[str, Any]]] = {
    "snapshot": lambda error: {"snapshot": raiser(error)},
    "now": lambda error: {"now": raiser(error)},
    "policy": lambda error: fixed(make_snapshot(policy=broken_policy(error))),
    "issuers": lambda error: fixed(make_snapshot(issuers=Broken(error))),
    "signature": lambda error: fixed(replace(AFTER, verify_signature=broken_verify(error))),
    "identity": lambda error: fixed(make_snapshot(a=issuer_a(keys=key_set(NEW), aliases=Broken(error)))),
    "a look at hand": lambda error: {"lane": BrokenLane(error, at="find")},
    "max_wait": lambda error: {"lane": BrokenLane(error, at="max_wait")},
    "gatherer": lambda error: {"gatherer": BrokenGatherer(error)},
    "fresh snapshot": lambda error: {"snapshot": second(error)},
    "new_id": lambda error: {"new_id": raiser(error)},
    "encoding": lambda error: {"decide": lambda *_: broken_decision(error)},
    "elapsed": lambda error: {"elapsed": raiser(error)},
    "report": lambda error: {"report": raiser(error)},
    "report of an allow": lambda error: {"report": raiser(error), **fixed(AFTER)},
}


def assert_internal_error(answer: bytes) -> None:
    """A denial with status 500, for both kinds of callers, without details."""
    message = read(answer)
    assert message.status.code == 7
    assert message.WhichOneof("http_response") == "denied_response"
    assert message.denied_response.status.code == 500
    assert (told(message), told(message, "decision")) == ("internal_error", "deny")
    assert SECRET.encode() not in answer
    assert message.status.message.startswith("Internal Server Error, decision ")
