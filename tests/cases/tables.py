"""Decision tables: a configuration, and what becomes of each request under it.

A table is a YAML file with a `config` (rules, identity and so on; the issuers `a` and `b` of tests/fixtures.py are
there already, with keys and without leeway) and `cases`, each named by what it proves:

    a scope opens what it names:
      ask: POST /orders            # method and path
      host: api.test               # and headers, context, address, where they matter
      token: {scope: orders:write} # changes to a good token's claims; absent: no token
      issuer: b                    # whose token; a where absent
      then: allow authenticated    # outcome and reason
      set: {x-user-id: bob}        # headers that the upstream gets, all of them
      removes: [x_user_id]         # names that are removed, among others
      challenge: {scope: x}        # what has sufficed: scope, acr_values, max_age
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from authz.config.build import build_snapshot
from authz.config.load import parse
from authz.config.model import Config
from authz.core.authorize import authorize
from authz.core.decision import Allow, Decision, Deny, outcome
from authz.core.request import Request
from authz.core.snapshot import Snapshot
from tests.fixtures import A_RSA, B_EC, A, B, T, mint

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the tables are long, and Python reads them slowly
FOLDER: Final = Path(__file__).parent
_SIGNERS: Final = {"a": (A, A_RSA), "b": (B, B_EC)}
_KNOWN: Final = frozenset(
    {"ask", "host", "headers", "context", "address", "scheme", "token", "issuer", "then", "set", "removes", "challenge"}
)


@dataclass(frozen=True, slots=True)
class Case:
    """One row: a configuration, and the case as written."""

    snapshot: Snapshot
    row: Mapping[str, Any]

    def request(self) -> Request:
        """Make the request of this row."""
        assert self.row.keys() <= _KNOWN, f"unknown: {self.row.keys() - _KNOWN}"
        method, _, path = self.row["ask"].partition(" ")
        headers = {str(name): str(value) for name, value in self.row.get("headers", {}).items()}
        if "token" in self.row:
            issuer, key = _SIGNERS[self.row.get("issuer", "a")]
            headers["authorization"] = f"Bearer {mint(key, **{'iss': issuer, **self.row['token']})}"
        return Request(
            method=method,
            host=self.row.get("host", "api.test"),
            path=path,
            scheme=self.row.get("scheme", "https"),
            headers=headers,
            context=self.row.get("context", {}),
            source_address=self.row.get("address", "192.0.2.1"),
        )

    def decide(self) -> Decision:
        """Judge the request of this row."""
        return authorize(self.request(), self.snapshot, T)

    def check(self) -> None:
        """Judge, and compare all that the row names."""
        decision = self.decide()
        assert f"{outcome(decision)} {decision.reason}" == self.row["then"], decision
        if isinstance(decision, Allow):
            if "set" in self.row:
                assert dict(decision.set_headers) == self.row["set"]
            assert set(self.row.get("removes", ())) <= set(decision.remove_headers)
            assert not {name for name, _ in decision.set_headers} & set(decision.remove_headers)
        if "challenge" in self.row:
            assert isinstance(decision, Deny)
            sufficed = {
                "scope": " ".join(decision.scopes),
                "acr_values": " ".join(decision.acr_values),
                "max_age": decision.max_age,
            }
            assert {name: value for name, value in sufficed.items() if value} == self.row["challenge"]


def snapshot_of(config: Mapping[str, Any]) -> Snapshot:
    """Build *config* with the issuers of the world in it."""
    return build_snapshot(config_of(config))


def config_of(config: Mapping[str, Any]) -> Config:
    """Load *config* with the issuers of the world in it, as from a file."""
    issuers = {
        name: {
            "issuer": issuer,
            "audiences": ["api"],
            "leeway": "0s",
            "jwks": {"keys": [key.public()]},
        }
        for name, (issuer, key) in _SIGNERS.items()
    }
    written = dict(config)
    own = written.pop("issuers", {})
    merged = {name: {**issuers.get(name, {}), **own.get(name, {})} for name in issuers | own.keys()}
    document = json.dumps({"version": 1, "issuers": merged, **written})
    return parse(document, file="table")


def read_table(table: Mapping[str, Any]) -> Iterator[tuple[str, Case]]:
    """Yield the cases of one table, by name."""
    snapshot = snapshot_of(table["config"])
    for name, row in table["cases"].items():
        yield name, Case(snapshot, row)


@cache
def read_documents(pattern: str) -> Mapping[str, Mapping[str, Any]]:
    """Read every file of this folder that *pattern* names, by its name without suffix."""
    files = sorted(FOLDER.glob(pattern))
    assert files, f"no table is named {pattern}"
    return {file.stem: yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER) for file in files}  # noqa: S506 - a safe one


@cache
def read_tables(pattern: str) -> list[Any]:
    """Read every table of this folder that *pattern* names, as parameters for pytest."""
    return [
        pytest.param(case, id=f"{stem}: {name}")
        for stem, table in read_documents(pattern).items()
        for name, case in read_table(table)
    ]
