"""A rotation of our own signing keys at 1,000 requests a second: each token is verified by three readers at once.

The upstream's Envoy (jwt_authn) verifies each request, and logs the token that it got. Every one of these is verified
by jose on Node and by PyJWT too, as soon as it is in the log. Each reader has its own cache of the key set, and none
fetches it again because of a key that it does not know.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Final

import jwt

from authz.demo.bootstrap import Proxy
from authz.demo.client import send
from authz.demo.envoy import Envoy
from authz.demo.sidecar import Sidecar
from tests.e2e.test_upstream_token import ISSUER, KEYS, Jose, guard
from tests.endurance.client import Plan, get, loading
from tests.endurance.harness import CLIENT_CORES, ENVOY_CORE, SIDECAR_CORE, on
from tests.endurance.report import Result
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.unit.envoy.serving import short_folder

HEADER: Final = "txn-token"
MAX_AGE: Final = 1  # seconds that each reader keeps the key set
_AT_ONCE: Final = 100  # tokens that are sent to a reader, until it has answered

CONFIG: Final = Template("""version: 1
server: {listen: "unix:$socket"}
admin: {listen: "$admin"}
issuers:
  idp: {issuer: "$issuer", audiences: [api], insecure: {http: true}}
rules: [{name: orders, match: {paths: ["/orders/**"]}, require: {scopes: [read]}}]
identity: {token: {header: $header, issuer: "http://gateway.test", audience: [orders], lifetime: 20s}}
signing:
  keys: {main: {kind: memory, algorithm: ES256}}
  rotation: {ahead: 4s}
  publish: {max_age: ${max_age}s}
""")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of it."""

    rate: int = 1_000
    callers: int = 200
    rotations: int = 1


@dataclass(slots=True)
class Seen:
    """What the readers said: tokens by key, refusals by reader, and the longest time from a request to the readers."""

    keys: Counter[str] = field(default_factory=Counter)
    distinct: set[str] = field(default_factory=set)
    refused: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in ("Envoy jwt_authn", "jose", "PyJWT")}
    )
    lag: float = 0.0


class Readers:
    """Verify what the upstream's Envoy logs."""

    def __init__(self, keys: str, log: Path) -> None:
        self._jose: Final = Jose(keys, MAX_AGE * 1000)
        self._python: Final = jwt.PyJWKClient(keys, lifespan=MAX_AGE)
        self._log: Final = log.open("rb")
        self._rest = b""
        self.seen: Final = Seen()

    def close(self) -> None:
        """End all."""
        self._jose.close()
        self._log.close()

    def read(self) -> int:
        """Verify what is new in the log; return how much that was."""
        *lines, self._rest = (self._rest + self._log.read()).split(b"\n")
        for first in range(0, len(lines), _AT_ONCE):
            self._verify([line.decode().split(" ") for line in lines[first : first + _AT_ONCE]])
        return len(lines)

    def count(self) -> int:
        """Verify what is new in the log; return how much that was in all."""
        self.read()
        return self.seen.keys.total() + self.seen.refused["Envoy jwt_authn"].total()

    def _verify(self, lines: Sequence[list[str]]) -> None:
        tokens = []
        for began, status, token in lines:
            self.seen.lag = max(self.seen.lag, time.time() - float(began))
            if status == "200":
                tokens.append(token)
            else:
                self.seen.refused["Envoy jwt_authn"][status] += 1
        for token, said in zip(tokens, self._jose.verify_all(tokens), strict=True):
            if said != "ok":
                self.seen.refused["jose"][said] += 1
            self._verify_in_python(token)

    def _verify_in_python(self, token: str) -> None:
        self.seen.distinct.add(token)
        kid = str(jwt.get_unverified_header(token)["kid"])
        self.seen.keys[kid] += 1
        try:
            # `get_signing_key` would fetch again for a key that it does not know.
            keys = {key.key_id: key for key in self._python.get_signing_keys()}
            jwt.decode(token, keys[kid], algorithms=["ES256"], audience="orders", issuer=ISSUER)
        except (jwt.PyJWTError, KeyError) as error:
            self.seen.refused["PyJWT"][repr(error)] += 1


@contextmanager
def stack(idp: FakeIdp) -> Iterator[tuple[str, str, Path]]:
    """Start the sidecar and both Envoys; yield the URLs of the first one and of the admin port, and the log."""
    with short_folder() as folder, ExitStack() as running:
        socket, admin, log = folder / "authz.sock", free_address(), folder / "tokens.log"
        names = {"socket": socket, "admin": admin, "issuer": idp.issuer, "header": HEADER, "max_age": MAX_AGE}
        sidecar = Sidecar(CONFIG.substitute(names), admin=admin, folder=folder)
        running.callback(sidecar.stop)
        with on(SIDECAR_CORE):
            sidecar.start()
        (own := folder / "guard").mkdir()
        file = own / "guard.json"
        file.write_text(json.dumps(guarding(admin, log)), encoding="utf-8")
        upstream = Envoy(file, own)
        running.callback(upstream.stop)
        with on(ENVOY_CORE):
            upstream.start()
            address = upstream.url.removeprefix("http://")
            front = Envoy(Proxy(upstream=address, sidecars=(f"unix:{socket}",), timeout_ms=60_000), folder)
            running.callback(front.stop)
            front.start()
        yield front.url, f"http://{admin}", log


def guarding(admin: str, log: Path) -> dict[str, Any]:
    """Return the bootstrap of an Envoy that verifies the tokens, logs them, and answers itself."""
    bootstrap = guard("127.0.0.1:9", admin, HEADER)
    (listener,) = bootstrap["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["virtual_hosts"][0]["routes"] = [
        {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    ]
    line = f"%START_TIME(%s.%3f)% %RESPONSE_CODE% %REQ({HEADER})%\n"
    manager["access_log"] = [
        {
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": str(log),
                "log_format": {"text_format_source": {"inline_string": line}},
            },
        }
    ]
    return bootstrap


def run(scale: Scale) -> Result:
    """Rotate under load."""
    result = Result("rotation")
    with FakeIdp() as idp, stack(idp) as (url, admin, log), ExitStack() as running:
        tokens = [idp.mint(sub=f"user-{number}", scope="read") for number in range(scale.callers)]
        questions = [get("/orders/1", kind="order", token=token) for token in tokens]
        plan = Plan(url=url, questions=questions, rate=scale.rate, connections=16, cores=CLIENT_CORES)
        load = running.enter_context(loading(plan))
        readers = Readers(f"{admin}{KEYS}", log)
        running.callback(readers.close)
        for _ in range(scale.rotations):
            rotate(admin, readers)
        tally = load.end()
        behind = readers.seen.lag
        wait_until(lambda: readers.count() >= tally.count)  # Envoy writes its log every ten seconds
    seen = readers.seen
    row: dict[str, str | int | float] = {
        "offered a second": scale.rate,
        "answered a second": round(tally.rate),
        "requests": tally.count,
        "tokens": len(seen.distinct),
        "keys": len(seen.keys),
        "p99 ms": round(tally.quantile(0.99), 1),
        "readers behind, s": round(behind, 1),
    }
    result.rows.append(row)
    statuses = tally.statuses()
    result.promise("each request is answered with 200", found=dict(statuses), held=set(statuses) == {"200"})
    for name, refused in seen.refused.items():
        result.promise(f"{name} accepts each token", found=f"refused {dict(refused)}", held=not refused)
    verified = sum(seen.keys.values())
    result.promise("each token was verified", found=f"{verified} of {tally.count}", held=verified == tally.count)
    keys = len(seen.keys)
    result.promise("each new key signed", found=dict(seen.keys), held=keys == scale.rotations + 1)
    return result


def rotate(admin: str, readers: Readers) -> None:
    """Begin a rotation, and verify until the old key is gone."""
    readers.read()
    before = send(f"{admin}/signing").json()["signing"]
    if send(f"{admin}/signing/rotate", method="POST").status != 202:
        raise RuntimeError("no rotation began")
    while before in {key["kid"] for key in send(f"{admin}/signing").json()["keys"]}:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            if not readers.read():
                time.sleep(0.05)
