"""The backends of the admin port's routes for revocations: this process, or all workers of a supervisor."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from authz.admin.revocations import CATCH_UP_PATH, FIND_PATH, PATH, UNDO_PATH, Refusal
from authz.core.revocation import RevocationEntry
from authz.core.revocation_entries import parse_revocation_list
from authz.feeds.revocation_events import FullError, NoSealError
from authz.feeds.revocation_sharing import NotSharedError
from authz.feeds.revocations import OPERATOR, Revocations
from authz.runtime.workers import Workers

MAX_ENTRIES: Final = 2000  # of one request; the admin port reads 256 KiB


class ProcessRevocations:
    """The revocations of this process."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations: Final = revocations

    def describe(self) -> Mapping[str, Any]:
        """Return the sources and how many entries each has."""
        return self._revocations.describe()

    def revoke(self, document: bytes) -> Mapping[str, Any]:
        """Apply the operator's entries. Raises Refusal."""
        entries = _read(document)
        new = _apply(lambda: self._revocations.events.revoke(entries, OPERATOR, undoable=True))
        return {"entries": len(entries)} | ({"new": new} if isinstance(new, int) else {"unshared": new})

    def undo(self, document: bytes) -> Mapping[str, Any]:
        """Take back what operators have revoked by these targets. Raises Refusal."""
        targets = [(entry.by, entry.issuer, entry.value) for entry in _read(document)]
        undone = _apply(lambda: self._revocations.events.undo(targets, OPERATOR))
        return {"undone": undone} if isinstance(undone, int) else {"unshared": undone}

    def find(self, document: bytes) -> Mapping[str, Any]:
        """Return which sources revoke the targets. Raises Refusal."""
        sources = [self._revocations.look_up((entry.by, entry.issuer, entry.value)) for entry in _read(document)]
        return {"revoked": sources}

    def catch_up(self) -> None:
        """Read what another process of this pod has written."""
        self._revocations.events.catch_up()


def _apply(change: Callable[[], int]) -> int | str:
    """Make a *change*; return its number, or why other replicas do not know of it. Raises Refusal."""
    try:
        return change()
    except NotSharedError as error:
        return str(error.strerror)
    except NoSealError as error:
        raise Refusal(HTTPStatus.CONFLICT, (str(error),)) from None
    except FullError as error:
        raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, (str(error),)) from None
    except OSError as error:
        why = f"it counts until this process ends, for it cannot be saved: {error.strerror}"
        raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, (why,)) from None


def _read(document: bytes) -> tuple[RevocationEntry, ...]:
    """Read the entries of a command. Raises Refusal."""
    try:
        parsed = parse_revocation_list(document, max_entries=MAX_ENTRIES)
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, (str(error),)) from None
    if parsed.errors:  # unlike a list: the sender is there to correct it
        raise Refusal(HTTPStatus.BAD_REQUEST, tuple(f"entry {index}: {why}" for index, why in parsed.errors))
    return parsed.entries


class PodRevocations:
    """The revocations of all workers: one takes an event and writes it to their file, the others read it then."""

    def __init__(self, workers: Workers) -> None:
        self._workers: Final = workers

    def describe(self) -> Mapping[str, Any]:
        """Return the description of the first worker that answers, and the silent workers. Raises OSError."""
        by_worker = self._workers.read(PATH)
        if not by_worker:
            return {"sources": [], "max_entries": 0, "silent_workers": self._workers.silent(by_worker)}
        return {**next(iter(by_worker.values())), "silent_workers": self._workers.silent(by_worker)}

    def revoke(self, document: bytes) -> Mapping[str, Any]:
        """Let the first worker that answers apply the entries, and the others read them. Raises Refusal."""
        result = self._post_to_one(PATH, document)
        return {**result, "silent_workers": self.catch_up()}

    def undo(self, document: bytes) -> Mapping[str, Any]:
        """Let the first worker that answers take entries back, and the others read that. Raises Refusal."""
        result = self._post_to_one(UNDO_PATH, document)
        return {**result, "silent_workers": self.catch_up()}

    def find(self, document: bytes) -> Mapping[str, Any]:
        """Return the result of the first worker that answers. Raises Refusal."""
        return self._post_to_one(FIND_PATH, document)

    def _post_to_one(self, path: str, document: bytes) -> Mapping[str, Any]:
        answer = self._workers.post_to_one(path, document)
        if answer is None:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, ("no worker answers",))
        result: Mapping[str, Any] = json.loads(answer.body)
        if answer.status not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
            raise Refusal(HTTPStatus(answer.status), tuple(result["errors"]))
        return result

    def catch_up(self) -> list[int]:
        """Let all workers read their file; return those that did not answer: they read it within a second or so."""
        return self._workers.silent(self._workers.post(CATCH_UP_PATH, {}))
