"""What can be done to the header of a token, which is signed as changed."""

from __future__ import annotations

from typing import Final

from tests.attacks.draft import Change, Mutation, cut, insert, one_of, rewrite_header, set_header
from tests.fixtures import ABSENT, T, signer

_NO_STRINGS: Final[list[object]] = [None, 1, ["JWT"], {}]
_ATTACKER: Final = signer("ES256", "attacker")

HEADER: Final[dict[str, Change]] = {
    "alg: none, in any case": one_of(*(set_header(alg=alg) for alg in ("none", "None", "NONE", "nOnE", "none "))),
    "alg: in another case": one_of(*(set_header(alg=alg) for alg in ("rs256", "es256", "RS256 ", "Rs256"))),
    "alg: not a name": one_of(*(set_header(alg=alg) for alg in (None, 256, ["RS256"], {"a": 1}, "", ABSENT))),
    "alg: not in the list": one_of(*(set_header(alg=alg) for alg in ("RS1", "RS384", "PS384", "ES521", "HS512"))),
    "alg: HS256 with a public key": set_header(alg="HS256"),
    "typ: spelt otherwise": one_of(
        *(set_header(typ=typ) for typ in ("jwt", "at+jwt", "AT+JWT", "application/at+jwt", "application/JWT", ABSENT))
    ),
    "typ: of another kind of token": one_of(
        *(set_header(typ=typ) for typ in ("logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", "x/jwt"))
    ),
    "typ: not a string": one_of(*(set_header(typ=value) for value in _NO_STRINGS)),
    "crit: an extension that nobody knows": set_header(crit=["x"], x=1),
    "crit: an extension that is absent": set_header(crit=["x"]),
    "crit: empty": set_header(crit=[]),
    "crit: not a list": one_of(set_header(crit="x", x=1), set_header(crit=1), set_header(crit={"x": 1}, x=1)),
    "crit: null": set_header(crit=None),
    "crit: a registered name": one_of(set_header(crit=["alg"]), set_header(crit=["kid", "alg"])),
    "crit: a claim": set_header(crit=["exp"], exp=T + 300),
    "b64: false, uncritical": set_header(b64=False),
    "b64: false, critical, encoded all the same": set_header(b64=False, crit=["b64"]),
    "b64: true, critical": set_header(b64=True, crit=["b64"]),
    "b64: true, uncritical": set_header(b64=True),
    "kid: unknown": one_of(
        *(
            set_header(kid=kid)
            for kid in ("nobody", "../../dev/null", "' OR 1=1--", "\x00", "A-RSA", "a\u0000", "\u0430-rsa", "a\u200b")
        )
    ),
    "kid: not a string": one_of(*(set_header(kid=kid) for kid in (None, 1, ["a-rsa"], {"a": 1}, True))),
    "kid: of 2,000 characters": set_header(kid="k" * 2_000),
    "key: offered by the token": one_of(
        set_header(jwk=_ATTACKER.public()),
        set_header(jku="https://evil.test/keys"),
        set_header(x5u="https://evil.test/cert"),
        set_header(x5t="AAAA"),
    ),
    "key: offered by the token as a certificate": set_header(x5c=["MIIB"]),
    "key: offered by the token, malformed": one_of(set_header(jwk=1), set_header(jku=[]), set_header(x5c="x")),
    "zip: DEF": set_header(zip="DEF"),
    "cty: JWT": set_header(cty="JWT"),
    "header: unknown members": one_of(set_header(x=1), set_header(**{"": None}), set_header(nonce="n", url="u")),
    "header: nested": set_header(x=[[[{}]]]),
    "header: escaped names": rewrite_header(lambda data: data.replace(b'"alg"', b'"\\u0061lg"')),
    "header: spaces between": rewrite_header(lambda data: b" \n" + data.replace(b",", b" ,\t\r\n") + b" "),
    "header: a duplicate member": one_of(
        rewrite_header(insert(b'"alg":"none",')), rewrite_header(insert(b'"kid":"nobody",'))
    ),
    "header: byte order mark": rewrite_header(lambda data: b"\xef\xbb\xbf" + data),
    "header: UTF-16 or UTF-32": one_of(
        rewrite_header(lambda data: data.decode().encode("utf-16")),
        rewrite_header(lambda data: data.decode().encode("utf-16-le")),
        rewrite_header(lambda data: data.decode().encode("utf-32")),
    ),
    "header: not UTF-8": rewrite_header(insert(b'"x":"\xff",')),
    "header: overlong UTF-8": rewrite_header(insert(b'"x":"\xc0\x80",')),
    "header: NaN or Infinity": one_of(rewrite_header(insert(b'"x":NaN,')), rewrite_header(insert(b'"x":-Infinity,'))),
    "header: a number beyond doubles": rewrite_header(insert(b'"x":1e400,')),
    "header: a number of 100 digits": rewrite_header(insert(b'"x":' + b"9" * 100 + b",")),
    "header: a lone surrogate": rewrite_header(insert(b'"x":"\\ud800",')),
    "header: 100 levels deep": rewrite_header(insert(b'"x":' + b"[" * 100 + b"]" * 100 + b",")),
    "header: no JSON object": one_of(
        *(rewrite_header(lambda _, text=text: text) for text in (b"[]", b"null", b'"x"', b"1", b"{", b"{}", b"", b"x"))  # type: ignore[misc]
    ),
    "header: something after it": one_of(
        rewrite_header(lambda data: data + b"x"), rewrite_header(lambda data: data + b"{}"), rewrite_header(cut)
    ),
    "header: relaxed JSON": one_of(
        rewrite_header(lambda data: data.replace(b'"', b"'")),
        rewrite_header(lambda data: data[:-1] + b",}"),
        rewrite_header(lambda data: b"/**/" + data),
        rewrite_header(insert(b'"x":01,')),
        rewrite_header(insert(b'"x":"\t",')),
    ),
}

# RS256 and ES256 are also the algorithms of a neighbour in the set; it must not be changed at the same time.
KID_ABSENT: Final = [
    Mutation(f"kid: {said}, {name}", "keys", set_header(kid=kid), frozenset(fits))
    for said, kid in {"absent": ABSENT, "empty": ""}.items()
    for name, fits in {"two keys are candidates": ["RS256", "ES256"], "one can be meant": ["PS256", "EdDSA"]}.items()
]
MUTATIONS: Final = [*(Mutation(name, "header", change) for name, change in HEADER.items()), *KID_ABSENT]
