"""Load each list of revocations of a configuration once, with the code of the feeds, and report the result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from authz.config.model import Config
from authz.feeds.failure import RefreshError
from authz.feeds.revocation_lists import make_list_source
from authz.telemetry.redaction import printable
from authz.tooling.key_probe import ADVICE

_MAX_SHOWN: Final = 8  # entries that cannot be read


@dataclass(frozen=True, slots=True)
class ProbedList:
    """The list configured as *name*: the number of its *entries*, or the *error*; and what is wrong with others."""

    name: str
    location: str
    entries: int = 0
    errors: tuple[tuple[int, str], ...] = ()
    error: str = ""
    advice: str = ""

    @property
    def ok(self) -> bool:
        """Whether all of it can be used."""
        return not self.error and not self.errors

    def lines(self) -> Iterator[str]:
        """Format it for people."""
        yield f"revocations {self.name}: {printable(self.location)}"
        yield f"  failed        {printable(self.error)}" if self.error else f"  entries       {self.entries}"
        yield from (f"  rejected      entry {index}: {printable(why)}" for index, why in self.errors[:_MAX_SHOWN])
        if self.advice:
            yield f"  to do         {self.advice}"

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "list": self.name,
            "source": self.location,
            "ok": self.ok,
            "entries": self.entries,
            "rejected": [{"entry": index, "why": why} for index, why in self.errors],
            "detail": self.error,
            "advice": self.advice,
        }


def probe_lists(config: Config) -> list[ProbedList]:
    """Load every list once, one after the other, each within its timeout."""
    return [_probe(name, config) for name in config.revocation.lists]


def _probe(name: str, config: Config) -> ProbedList:
    source = make_list_source(config.revocation.lists[name], max_entries=config.revocation.max_entries)
    try:
        loaded = source.load(on_demand=False).value
    except RefreshError as error:
        return ProbedList(name, source.location, error=str(error), advice=ADVICE[error.result])
    if loaded is None:
        return ProbedList(name, source.location, error="the server says that nothing has changed")
    return ProbedList(name, source.location, len(loaded.table), loaded.errors)
