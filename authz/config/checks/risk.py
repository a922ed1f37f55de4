"""Checks of the risk engine, and of rules that read its answers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from authz.config.checks.outbound import check_authorization, check_called_url, check_client_certificate
from authz.config.checks.tokens import TOKEN
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem
from authz.config.risk import Risk
from authz.config.rules import asks_engine

_SECRET = frozenset({"authorization", "cookie", "dpop", "proxy-authorization"})


def check_risk(config: Config) -> Iterator[Problem]:
    """Report an engine that cannot be asked, and rules that read the answers of none."""
    if config.risk is not None:
        yield from _check_engine(config.risk, config)
    for index, rule in enumerate(config.rules):
        if rule.require is None:
            continue
        if config.risk is None and asks_engine(rule.require):
            message = "reads the level or the score of a risk engine, and none is configured"
            yield Problem(path=("rules", index, "require"), message=message, hint="risk: {url: ...}")
        wanted = rule.require.risk
        if wanted is not None and wanted.max_score is not None and not math.isfinite(wanted.max_score):
            path = ("rules", index, "require", "risk", "max_score")
            yield Problem(path=path, message="must be a finite number")


def _check_engine(engine: Risk, config: Config) -> Iterator[Problem]:
    path: KeyPath = ("risk",)
    yield from check_called_url(engine.url, (*path, "url"), http=engine.allows_http, section=path)
    yield from check_authorization(engine, path)
    yield from check_client_certificate(engine, path)
    secret = _SECRET | {source.header for source in config.token.sources}
    for index, name in enumerate(engine.send_headers):
        if name in secret:
            yield Problem(path=(*path, "send_headers", index), message="holds a token or credentials")
        elif not TOKEN.fullmatch(name) or name != name.lower():
            yield Problem(path=(*path, "send_headers", index), message="must be the name of a header, in lower case")
    failure = engine.on_error
    if failure is not None and failure.level is None and failure.score is None:
        yield Problem(path=(*path, "on_error"), message="must have a level, a score, or both")
    if failure is not None and failure.score is not None and not math.isfinite(failure.score):
        yield Problem(path=(*path, "on_error", "score"), message="must be a finite number")
