"""Requests by which an attacker would forge log lines, add metric series or leave a token behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from authz.core.request import Request
from tests.fixtures import A_EC, B_EC, T, ask, mint, signer, unsigned

FORGERY: Final = '\n{"decision": "allow"}\r\x1b[2J\x85\u2028\x00'
TEXTS: Final = (FORGERY, "\x1b[31mred", "a\nlevel=info", "x" * 100_000, "\u202eevil", "漢" * 300, '"', "\\n", " a=b c")


def requests() -> Iterator[Request]:
    """Yield one request for each way to put a text somewhere, and each kind of refusal."""
    for text in TEXTS:
        yield ask(mint(), path=f"/items/{text}")
        yield ask(mint(), path=f"/items/1?{text}")
        yield ask(mint(), method=text)
        yield ask(mint(), host=text)
        yield ask(mint(), headers={"x-request-id": text, "user-agent": text, text: text})
        yield ask(text)
        yield ask(mint(), source_address=text)
        yield ask(mint(sub=text))
        yield ask(mint(header={"kid": text[:1000]}))
        yield ask(mint(header={"alg": text[:1000]}))
        yield ask(mint(iss=text))
        yield ask(unsigned({"alg": "RS256", "kid": text[:1000]}))
    for token in tokens():
        yield ask(token)
        yield ask(token, path="/admin/1")
        yield ask(token, path=f"/items/1?access_token={token}")
        yield ask(headers={"authorization": f"bearer  {token} trailing"})
        yield ask(headers={"authorization": f"Bearer {token},Bearer {token}"})
        yield ask(headers={"authorization": token, "cookie": f"access_token={token}", "proxy-authorization": token})


def tokens() -> Iterator[str]:
    """Yield tokens good and bad: each of them is someone's secret."""
    good = mint()
    yield good
    yield mint(A_EC)
    yield mint(exp=T - 1)
    yield mint(nbf=T + 100)
    yield mint(aud="other")
    yield mint(iss="https://nobody.test")
    yield mint(B_EC)
    yield mint(signer("RS256", "stranger"))
    yield mint(header={"crit": ["b64"]})
    yield mint(header={"typ": "logout+jwt"})
    yield mint(payload=b'{"iss": "https://a.test", "iss": "x"}')
    yield good[:-4] + "AAAA"
    yield good.replace(".", "..", 1)
    yield good + "=="
    yield good + "." + good
    yield good + "A" * 20_000
