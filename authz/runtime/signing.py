"""The sidecar's own keys in one process, and in several workers: for the admin port and for metrics."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from authz.admin.signing import PublishedKeys
from authz.runtime.worker_sockets import WorkerResponse
from authz.runtime.workers import Workers
from authz.signing.keyring import Keyring
from authz.signing.rotation import counts
from authz.signing.state import StateError
from authz.telemetry.signing import SigningStatus

log = logging.getLogger(__name__)

_PR_SET_DUMPABLE: Final = 4  # prctl(2)


class ProcessSigning:
    """The keys of this process: an `authz.admin.signing.SigningAdmin`."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring: Final = keyring

    def published(self) -> PublishedKeys | None:
        """Return the documents."""
        view = self._keyring.view
        return PublishedKeys(view.key_set, view.discovery, view.max_age) if self._keyring.enabled else None

    def describe(self) -> Mapping[str, object] | None:
        """Describe the keys; with the documents, for a supervisor."""
        published = self.published()
        if published is None:
            return None
        documents = {"key_set": published.key_set, "discovery": published.discovery, "max_age": published.max_age}
        return {**self._keyring.describe(), "published": documents}

    def rotate(self) -> tuple[HTTPStatus, str]:
        """Begin a rotation."""
        try:
            kid = self._keyring.rotate()
        except StateError as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, str(error)
        if kid is None:
            return HTTPStatus.CONFLICT, "this process generates no keys: see signing.keys and signing.rotation"
        return HTTPStatus.ACCEPTED, f"key {kid} is published, and signs when readers know it"

    def withdraw(self, kid: str) -> tuple[HTTPStatus, str]:
        """Withdraw a key at once."""
        try:
            withdrawn = self._keyring.withdraw(kid)
        except StateError as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, str(error)
        if not withdrawn:
            return HTTPStatus.NOT_FOUND, "no key has this kid"
        text = f"key {kid} is withdrawn: readers that cache it accept it for as long as they do"
        if self._keyring.listed:
            text += "; remove it from signing.keys, or other replicas and the next start use it"
        return HTTPStatus.OK, text

    def facts(self) -> SigningStatus | None:
        """Return the values of the metrics."""
        if not self._keyring.enabled:
            return None
        described: dict[str, Any] = self._keyring.describe()
        ring = self._keyring.view.ring
        return SigningStatus(
            phases={phase.value: count for phase, count in counts(ring).items()},
            started=ring.signing.started if ring.signing is not None else None,
            due=described["replaced_at"],
            failing=bool(self._keyring.problem),
        )


class PodSigning:
    """The keys of all workers, which share one state file: an `authz.admin.signing.SigningAdmin`."""

    def __init__(self, workers: Workers) -> None:
        self._workers: Final = workers

    def published(self) -> PublishedKeys | None:
        """Return the documents of the first worker that answers, and knows a key."""
        answers = [described["published"] for described in self._workers.read("/signing").values()]
        for documents in sorted(answers, key=lambda documents: not documents["key_set"]):
            return PublishedKeys(documents["key_set"], documents["discovery"], documents["max_age"])
        return None

    def describe(self) -> Mapping[str, object] | None:
        """Describe the keys as the first worker that answers does."""
        return next(iter(self._workers.read("/signing").values()), None)

    def rotate(self) -> tuple[HTTPStatus, str]:
        """Let one worker begin a rotation; the others follow."""
        return self._post("/signing/rotate")

    def withdraw(self, kid: str) -> tuple[HTTPStatus, str]:
        """Let every worker withdraw a key at once: a listed key is not in the state that workers share."""
        answers = self._workers.post(f"/signing/withdraw?{urlencode({'kid': kid})}", None)
        if silent := self._workers.silent(answers):
            numbers = ", ".join(map(str, silent))
            return HTTPStatus.SERVICE_UNAVAILABLE, f"worker {numbers} does not answer, and may still use the key"
        # One that failed in any way may still use the key; one that has no such key does not.
        worst = min(answers.values(), key=lambda answer: _WITHDRAWN.get(answer.status, 0))
        return _read_answer(worst)

    def _post(self, target: str) -> tuple[HTTPStatus, str]:
        answer = self._workers.post_to_one(target)
        if answer is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, "no worker answers"
        return _read_answer(answer)


_WITHDRAWN: Final[Mapping[int, int]] = {HTTPStatus.OK: 1, HTTPStatus.NOT_FOUND: 2}  # any other status is a failure


def _read_answer(answer: WorkerResponse) -> tuple[HTTPStatus, str]:
    return HTTPStatus(answer.status), answer.body.decode("utf-8", "replace").strip()


def forbid_core_dumps() -> None:
    """Keep private keys out of core dumps, and other processes of this user out of the memory of this one.

    A limit of zero does not stop a kernel that pipes core dumps to a program; not being dumpable does.
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - few sign tokens

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
