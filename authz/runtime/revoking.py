"""What the admin port's paths for revocations ask: this process, or all workers of a supervisor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from authz.admin.revocations import CATCH_UP_PATH, PATH, Refusal
from authz.core.revocation_entries import parse_revocation_list
from authz.feeds.revocation_events import FullError
from authz.feeds.revocations import OPERATOR, Revocations
from authz.runtime.workers import Workers

MAX_ENTRIES: Final = 2000  # of one request; the admin port reads 256 KiB


class OwnRevocations:
    """The revocations of this process."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations: Final = revocations

    def describe(self) -> Mapping[str, Any]:
        """Return the sources and how many entries each has."""
        return self._revocations.describe()

    def revoke(self, document: bytes) -> Mapping[str, Any]:
        """Have the operator's entries count. Raises Refusal."""
        try:
            read = parse_revocation_list(document, max_entries=MAX_ENTRIES)
        except ValueError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, (str(error),)) from None
        if read.errors:  # unlike a list: who sends it is there to correct it
            raise Refusal(HTTPStatus.BAD_REQUEST, tuple(f"entry {place}: {why}" for place, why in read.errors))
        try:
            new = self._revocations.events.revoke(read.entries, OPERATOR)
        except FullError as error:
            raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, (str(error),)) from None
        except OSError as error:
            why = f"the entries count until this process ends, for they cannot be saved: {error.strerror}"
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, (why,)) from None
        return {"entries": len(read.entries), "new": new}

    def catch_up(self) -> None:
        """Read what another process of this pod has written."""
        self._revocations.events.catch_up()


class PodRevocations:
    """The revocations of all workers: one takes an event and writes it to their file, the others read it then."""

    def __init__(self, workers: Workers) -> None:
        self._workers: Final = workers

    def describe(self) -> Mapping[str, Any]:
        """Return what the first worker that answers knows, and who does not answer. Raises OSError."""
        found = self._workers.read(PATH)
        if not found:
            return {"sources": [], "max_entries": 0, "silent_workers": self._workers.silent(found)}
        return {**next(iter(found.values())), "silent_workers": self._workers.silent(found)}

    def revoke(self, document: bytes) -> Mapping[str, Any]:
        """Have the first worker that answers take the entries, and the others read them. Raises Refusal."""
        answer = self._workers.ask_one(PATH, document)
        if answer is None:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, ("no worker answers",))
        found = json.loads(answer.body)
        if answer.status != HTTPStatus.OK:
            raise Refusal(HTTPStatus(answer.status), tuple(found["errors"]))
        return {**found, "silent_workers": self.catch_up()}

    def catch_up(self) -> list[int]:
        """Have all workers read their file; return those that did not answer, and read it within a second or so."""
        return self._workers.silent(self._workers.post(CATCH_UP_PATH, {}))
