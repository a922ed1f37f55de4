"""What an attacker's request costs, against what an authenticated one does.

Run `python -m tests.bench.cost`. Each line is the least CPU time of several runs, the time as a multiple of a normal
check (RS256, computed, not remembered), the size of the input, and the decision. Times of one machine mean little on
another; the multiples mean the same.
"""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from authz.core import base64url
from authz.core.authorize import authorize
from authz.core.keys import Verified
from authz.core.request import MAX_HEADERS, MAX_PATH_CHARS, Request
from authz.core.snapshot import Snapshot, TokenRules
from authz.core.token import MAX_TOKEN_BYTES, CookieSource, HeaderSource, QuerySource
from tests.fixtures import (
    A_EC,
    ABSENT,
    DEFAULT_SNAPSHOT,
    T,
    ask,
    changed,
    issuer_a,
    key_set,
    make_snapshot,
    mint,
    rule,
    signer,
    unsigned,
)

MAX_HEADER_BYTES: Final = 61_440  # Envoy's default for all headers of a request
HEADER: Final = b'{"alg":"RS256","kid":"a-rsa"}'
GOOD: Final = mint()
COOKIE: Final = make_snapshot(token=TokenRules(sources=(HeaderSource("authorization", "Bearer"), CookieSource("t"))))
BARE: Final = make_snapshot(token=TokenRules(sources=(HeaderSource("x-token"),)))
QUERY: Final = make_snapshot(token=TokenRules(sources=(QuerySource("t"),)))
WITHHELD: Final = replace(COOKIE, token=replace(COOKIE.token, forward=False))
RULES: Final = [rule(f"r{n}", f"/{n}/{{id}}/**") for n in range(10_000)]
MANY_RULES: Final = make_snapshot(*RULES, rule("items", "/items/**"))
FOUR: Final = make_snapshot(a=issuer_a(keys=key_set(*(signer("RS256", f"r{number}") for number in range(4)))))
Line = tuple[str, Request, Snapshot]


def fill(start: bytes, part: bytes, end: bytes, size: int) -> bytes:
    """Repeat *part* between *start* and *end* as often as fits into *size* bytes."""
    return start + part * ((size - len(start) - len(end)) // len(part)) + end


def payload(start: bytes, part: bytes, end: bytes) -> str:
    """Write the largest token with a payload of that shape, and no signature worth the name."""
    room = (MAX_TOKEN_BYTES - len(base64url.encode(HEADER)) - 8) * 3 // 4
    return unsigned(HEADER, b"AAA", fill(start, part, end, room))


def members(size: int) -> bytes:
    """Write an object of as many members as fit."""
    parts: list[bytes] = []
    length = 2
    while length < size:
        parts.append(b'"%x":0' % len(parts))
        length += len(parts[-1]) + 1
    return b"{" + b",".join(parts[:-1]) + b"}"


def bearer(token: str, snapshot: Snapshot = DEFAULT_SNAPSHOT) -> tuple[Request, Snapshot]:
    """Ask with a token."""
    return ask(token), snapshot


def normal() -> Iterator[Line]:
    """What an honest client sends."""
    yield "authenticated, RS256", ask(GOOD), DEFAULT_SNAPSHOT
    yield "authenticated, ES256", ask(mint(A_EC)), DEFAULT_SNAPSHOT
    yield (
        "authenticated, remembered",
        ask(GOOD),
        make_snapshot(verify_signature=lambda _issuer, keys, _token: (keys[0], Verified.CACHED)),
    )
    yield "authenticated, of 8 KiB", ask(mint(padding="x" * 5_500)), DEFAULT_SNAPSHOT
    yield "authenticated, 10,000 rules", ask(GOOD), MANY_RULES
    yield (
        "authenticated, 999 other headers",
        ask(GOOD, headers={f"x-{n}": "" for n in range(MAX_HEADERS - 1)}),
        DEFAULT_SNAPSHOT,
    )
    yield "public", ask(path="/public/1"), DEFAULT_SNAPSHOT
    yield "no token", ask(), DEFAULT_SNAPSHOT


def tokens() -> Iterator[Line]:
    """Tokens as large as they may be, of all bad shapes, that no one signed."""
    shapes: dict[str, str] = {
        "bad signature": unsigned(HEADER, bytes(256)),
        "signature of another key, 16 KiB": mint(A_EC, header={"kid": "a-rsa", "alg": "RS256"}, padding="x" * 11_000),
        "too large": "A" * MAX_HEADER_BYTES,
        "no dots": "A" * MAX_TOKEN_BYTES,
        "dots": "." * MAX_TOKEN_BYTES,
        "not base64url": "!" * (MAX_TOKEN_BYTES - 4) + ".A.A",
        "base64url of junk": f"{'QUJD' * 4000}.AAAA.AAAA",
        "not canonical in the last segment": f"{base64url.encode(HEADER).decode()}.AAAA.{'A' * 16_001}",
        "Unicode": "é" * MAX_TOKEN_BYTES,
        "JSON: deep": payload(b"", b"[", b""),
        "JSON: as deep as may be, in a row": payload(b'{"a":[', b"[" * 30 + b"]" * 30 + b",", b"0]}"),
        "JSON: empty arrays": payload(b'{"a":[', b"[],", b"0]}"),
        "JSON: empty objects": payload(b'{"a":[', b"{},", b"0]}"),
        "JSON: small objects": payload(b'{"a":[', b'{"a":0},', b"0]}"),
        "JSON: members": unsigned(HEADER, b"AAA", members(12_200)),
        "JSON: quotes": payload(b"", b'"', b""),
        "JSON: escaped quotes": payload(b'{"a":"', b'\\"', b'"}'),
        "JSON: escaped quotes and brackets": payload(b'{"a":"', b'\\"[{', b'"}'),
        "JSON: escaped characters": payload(b'{"a":"', b"\\u0041", b'"}'),
        "JSON: strings": payload(b'{"a":[', b'"",', b"0]}"),
        "JSON: one long number": payload(b'{"a":', b"1", b"}"),
        "JSON: long numbers": payload(b'{"a":[', b"1" * 64 + b",", b"0]}"),
        "JSON: long fractions": payload(b'{"a":[', b"1." + b"1" * 55 + b"e-300,", b"0]}"),
        "JSON: small numbers": payload(b'{"a":[', b"1,", b"0]}"),
        "JSON: small fractions": payload(b'{"a":[', b".1,".replace(b".", b"0."), b"0]}"),
        "JSON: as many fractions as may be": payload(b'{"a":[' + b"0.1," * 2_000 + b'0],"b":"', b"\\u0041", b'"}'),
        "JSON: members behind brackets": unsigned(
            HEADER, b"AAA", b'{"a":[' + b"[]," * 33 + b"0]," + members(12_090)[1:]
        ),
        "JSON: spaces": payload(b'{"a":', b" ", b"0}"),
        "JSON: not UTF-8 at the end": payload(b'{"a":"', b"a", b'\xff"}'),
        "JSON: Unicode": payload(b'{"a":"', "漢".encode(), b'"}'),
        "header of members": unsigned(members(12_100), b"AAA", b"{}"),
        "header of objects": unsigned(fill(b'{"alg":"x","a":[', b"{},", b"0]}", 12_100), b"AAA", b"{}"),
        "long kid": unsigned({"alg": "RS256", "kid": "k" * 1024}),
        "kid too long": unsigned({"alg": "RS256", "kid": "k" * 10_000}),
        "long alg": unsigned({"alg": "R" * 11_000}),
        "unknown issuer": unsigned(HEADER, payload=b'{"iss":"https://c.test"}'),
        "unknown key": mint(header={"kid": "nobody"}),
        "no kid, and four keys": mint(signer("RS256", "stranger"), header={"kid": ABSENT}),
        "no kid, of 16 KiB, and four keys": mint(
            signer("RS256", "stranger"), header={"kid": ABSENT}, padding="x" * 11_000
        ),
        "no kid, and 900 keys": unsigned({"alg": "PS256"}),
        "signed, and expired": mint(exp=T),
        "signed, without a member": mint(exp=ABSENT),
        "signed, 1,500 groups": mint(groups=[f"{n:x}" for n in range(1_500)]),
        "signed, header too large": mint(sub="x" * 9_000),
    }
    many = [changed(A_EC.public(), {"kid": f"{number}", "alg": ABSENT}) for number in range(900)]
    sets = {"four keys": FOUR, "900 keys": make_snapshot(a=issuer_a(("PS256", "ES256"), key_set(*many)))}
    for label, token in shapes.items():
        yield label, *bearer(token, sets.get(label.rpartition("and ")[2], DEFAULT_SNAPSHOT))


def headers() -> Iterator[Line]:
    """Headers as large as Envoy lets them through."""
    for label, value in {
        "authorization of commas": "," * MAX_HEADER_BYTES,
        "authorization of credentials": ",a " * (MAX_HEADER_BYTES // 3),
        "authorization of Bearer credentials": "Bearer a," * (MAX_HEADER_BYTES // 9),
        "authorization of commas and spaces": (", " * 30 + "a") * (MAX_HEADER_BYTES // 61),
        "authorization of one long word": "a" * MAX_HEADER_BYTES,
        "authorization of spaces": "Bearer" + " " * MAX_HEADER_BYTES,
    }.items():
        yield label, ask(headers={"authorization": value}), DEFAULT_SNAPSHOT
    yield "whole header of commas", ask(headers={"x-token": "," * MAX_HEADER_BYTES}), BARE
    for label, value in {
        "cookies": "a=1;" * (MAX_HEADER_BYTES // 4),
        "cookies of semicolons": ";" * MAX_HEADER_BYTES,
        "cookies with many tokens": "t=1;" * (MAX_HEADER_BYTES // 4),
    }.items():
        yield label, ask(headers={"cookie": value}), COOKIE
        yield f"{label}, withheld", ask(headers={"cookie": value}, path="/public/1"), WITHHELD
    yield "connection of commas", ask(headers={"connection": "," * MAX_HEADER_BYTES}), DEFAULT_SNAPSHOT
    yield "too many headers", ask(headers={f"x-{n}": "" for n in range(MAX_HEADERS + 1)}), DEFAULT_SNAPSHOT
    yield "ten thousand headers", ask(headers={f"x-{n}": "" for n in range(10_000)}), DEFAULT_SNAPSHOT
    yield "certificate of junk", ask(mint(cnf={"x5t#S256": "x"}), certificate="%2D" * 20_000), DEFAULT_SNAPSHOT
    yield (
        "certificate never ending",
        ask(mint(cnf={"x5t#S256": "x"}), certificate="-----BEGIN CERTIFICATE-----" * 2_000),
        DEFAULT_SNAPSHOT,
    )


def paths() -> Iterator[Line]:
    """Paths and hosts as long as they may be."""
    room = MAX_PATH_CHARS - len("/public")
    for label, text in {
        "path of letters": "a" * (room - 1),
        "path of segments": "/a" * (room // 2),
        "path of segments, on the long way": "/a" * (room // 2 - 2) + "/%20",
        "path of escaped letters": "/" + "%61" * (room // 3 - 1),
        "path of escaped spaces": "/" + "%20" * (room // 3 - 1),
        "path of escaped Unicode": "/" + "%C3%A9" * (room // 6 - 1),
        "path of escaped segments": "/%20" * (room // 4 - 1),
        "path of raw brackets": "/" + "[" * (room - 1),
        "path of double escapes": "/" + "%25" * (room // 3 - 1) + "41",
        "path of semicolons": "/" + ";" * (room - 1),
        "path of slashes": "/" * room,
        "path of encoded slashes": "/" + "%2F" * (room // 3 - 1),
        "path of dots": "/" + "." * (room - 1),
        "path of backslashes": "/" + "\\" * (room - 1),
        "path not UTF-8 at the end": "/" + "%20" * (room // 3 - 2) + "%FF",
    }.items():
        yield label, ask(path="/public" + text), DEFAULT_SNAPSHOT
    yield "query of parameters", ask(path="/items?" + "a&" * 8_000), QUERY
    yield "query of tokens", ask(path="/items?" + "t=1&" * 4_000), QUERY
    yield "path of segments, 10,000 rules", ask(path="/1" * 8_000), MANY_RULES
    yield "host of labels", ask(host="a." * 127 + "a"), DEFAULT_SNAPSHOT


def size_of(request: Request) -> int:
    """Count what a client would have sent."""
    texts = [request.path, request.host, request.certificate, *request.headers, *request.headers.values()]
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def measure(request: Request, snapshot: Snapshot, *, runs: int = 30) -> float:
    """Return the least CPU time of one decision, in microseconds."""
    authorize(request, snapshot, T)
    least = float("inf")
    for _ in range(runs):
        began = time.process_time_ns()
        authorize(request, snapshot, T)
        least = min(least, time.process_time_ns() - began)
    return least / 1_000


def main() -> None:
    """Print the table."""
    unit = measure(ask(GOOD), DEFAULT_SNAPSHOT, runs=1_000)
    print(f"{'normal check = 1':44}{'us':>8}{'times':>8}{'bytes':>8}  decision")
    for title, lines in {"honest": normal(), "tokens": tokens(), "headers": headers(), "paths": paths()}.items():
        print(title)
        for label, request, snapshot in lines:
            cost = measure(request, snapshot)
            mark = " !" if cost > 10 * unit else ""
            reason = authorize(request, snapshot, T).reason
            print(f"  {label:42}{cost:8.0f}{cost / unit:8.1f}{size_of(request):8}  {reason}{mark}")


if __name__ == "__main__":
    main()
