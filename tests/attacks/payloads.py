"""What can be done to the payload of a token, which is signed as changed."""

from __future__ import annotations

from typing import Final

from tests.attacks.draft import Change, Mutation, cut, insert, one_of, rewrite_payload, set_claims
from tests.fixtures import ABSENT, A, B, T


def _values(name: str, values: tuple[object, ...]) -> Change:
    """Give a claim one of some values."""
    return one_of(*(set_claims({name: value}) for value in values))


PAYLOAD: Final[dict[str, Change]] = {
    "exp: absent or null": _values("exp", (ABSENT, None)),
    "exp: now or earlier": _values("exp", (T, T - 1, T - 0.5, 0, 1, 1e-300)),
    "exp: later, whole": _values("exp", (T + 1, T + 300.0, 10**11)),
    "exp: in milliseconds or less": _values("exp", ((T + 300) * 1000, 2**53, 1e12, 1e18)),
    "exp: later by less than a second": _values("exp", (T + 0.5, T + 0.001)),
    "exp: a fraction": _values("exp", (T + 300.5, T + 1.5)),
    "exp: a string of digits": _values("exp", (str(T + 300), f" {T + 300} ", f"{T:_}9")),
    "exp: a string of a fraction or none": _values("exp", (f"{T}.5", "never", "", "1e12")),
    "exp: a bool": _values("exp", (True, False)),
    "exp: a list or an object": _values("exp", ([], [T + 300], {}, {"a": 1})),
    "exp: negative": _values("exp", (-1, -0.5, -T)),
    "exp: beyond doubles": rewrite_payload(lambda data: data.replace(f'"exp":{T + 300}'.encode(), b'"exp":1e400')),
    "exp: NaN": rewrite_payload(lambda data: data.replace(f'"exp":{T + 300}'.encode(), b'"exp":NaN')),
    "exp: Infinity": rewrite_payload(lambda data: data.replace(f'"exp":{T + 300}'.encode(), b'"exp":Infinity')),
    "exp: of 61 digits": _values("exp", (10**60,)),
    "exp: of 100 digits": _values("exp", (10**100,)),
    "exp: duplicate": one_of(rewrite_payload(insert(b'"exp":1,')), rewrite_payload(insert(b'"exp":9999999999,'))),
    "exp: in upper case": set_claims({"exp": ABSENT, "EXP": T + 300}),
    "nbf: now or earlier": _values("nbf", (T, T - 1, 0, T - 0.5)),
    "nbf: later by a second or more": _values("nbf", (T + 1, T + 299)),
    "nbf: later by less than a second": _values("nbf", (T + 0.5,)),
    "nbf: a string of digits": _values("nbf", (str(T), "0")),
    "nbf: a bool": _values("nbf", (True, False)),
    "nbf: null": _values("nbf", (None,)),
    "nbf: a list or an object": _values("nbf", ([], {}, "now")),
    "nbf: negative": _values("nbf", (-1,)),
    "nbf: after exp": set_claims({"nbf": T + 2, "exp": T + 1}),
    "iat: absent or earlier": _values("iat", (ABSENT, 0, T - 1, T - 0.5)),
    "iat: later by a second or more": _values("iat", (T + 1, T + 299)),
    "iat: later by less than a second": _values("iat", (T + 0.5,)),
    "iat: a string of digits": _values("iat", (str(T), "0")),
    "iat: a bool": _values("iat", (True, False)),
    "iat: null": _values("iat", (None,)),
    "iat: a list or an object": _values("iat", ([], {}, "now")),
    "iat: negative": _values("iat", (-1,)),
    "aud: a list with ours": _values("aud", (["api"], ["x", "api"], ["api", "api"])),
    "aud: another's": _values("aud", ("apix", "ap", "API", "api ", "x", ["x"], "a", "аpi", "api,x")),
    "aud: absent or null": _values("aud", (ABSENT, None)),
    "aud: empty": _values("aud", ([], "", {})),
    "aud: an object": _values("aud", ({"api": 1},)),
    "aud: not a string": _values("aud", (1, True)),
    "aud: a list with something else than strings": _values("aud", (["api", 1], [None, "api"], ["api", ["x"]])),
    "aud: a list in a list": _values("aud", ([["api"]],)),
    "aud: duplicate": rewrite_payload(insert(b'"aud":"x",')),
    "iss: another's": _values("iss", (B, A + "/", A.upper(), A + " ", "a.test", "https://a.test\u0000", "x")),
    "iss: not a string": _values("iss", (None, 1, {}, ABSENT, "", True)),
    "iss: a list": _values("iss", ([A],)),
    "iss: duplicate": rewrite_payload(insert(b'"iss":"https://evil.test",')),
    "sub: absent, null or empty": _values("sub", (ABSENT, None)),
    "sub: empty": _values("sub", ("",)),
    "sub: not a string": _values("sub", (1, True, ["bob"], {"a": 1})),
    "sub: duplicate": rewrite_payload(insert(b'"sub":"admin",')),
    "jti: not a string": _values("jti", (1, None, [])),
    "jti: a string": _values("jti", ("x", "")),
    "cnf: bound to a key": _values("cnf", ({"jkt": "x"}, {"x5t#S256": "x"}, {"jwk": {}}, {})),
    "cnf: not an object": _values("cnf", (None, "x", [])),
    "events: a logout token": _values("events", ({"http://schemas.openid.net/event/backchannel-logout": {}},)),
    "events: another": _values("events", ({"x": {}}, "x", None)),
    "claims: unknown ones": one_of(set_claims({"x": [1, {"y": None}]}), set_claims({"ISS": "x", "Aud": 1})),
    "payload: a duplicate below": rewrite_payload(insert(b'"x":{"y":1,"y":2},')),
    "payload: escaped names": rewrite_payload(lambda data: data.replace(b'"iss"', b'"\\u0069ss"')),
    "payload: spaces between": rewrite_payload(lambda data: b"\n" + data.replace(b",", b" , ") + b"\t"),
    "payload: byte order mark": rewrite_payload(lambda data: b"\xef\xbb\xbf" + data),
    "payload: UTF-16 or UTF-32": one_of(
        rewrite_payload(lambda data: data.decode().encode("utf-16")),
        rewrite_payload(lambda data: data.decode().encode("utf-32-be")),
    ),
    "payload: not UTF-8": rewrite_payload(insert(b'"x":"\xff",')),
    "payload: NaN or Infinity": one_of(
        rewrite_payload(insert(b'"x":NaN,')), rewrite_payload(insert(b'"x":[-Infinity],'))
    ),
    "payload: a number beyond doubles": rewrite_payload(insert(b'"x":-1e999,')),
    "payload: a number of 100 digits": rewrite_payload(insert(b'"x":' + b"9" * 100 + b",")),
    "payload: a number of 5,000 digits": rewrite_payload(insert(b'"x":' + b"9" * 5_000 + b",")),
    "payload: a lone surrogate": rewrite_payload(insert(b'"x":"\\udfff",')),
    "payload: a pair of surrogates": rewrite_payload(insert(b'"x":"\\ud83d\\ude00",')),
    "payload: raw Unicode": rewrite_payload(insert('"x":"漢😀\u202e",'.encode())),
    "payload: 33 levels deep": rewrite_payload(insert(b'"x":' + b"[" * 33 + b"]" * 33 + b",")),
    "payload: no JSON object": one_of(
        *(rewrite_payload(lambda _, text=text: text) for text in (b"[]", b"null", b'"x"', b"1", b"{", b"{}", b"", b"x"))  # type: ignore[misc]
    ),
    "payload: something after it": one_of(
        rewrite_payload(lambda data: data + b"x"), rewrite_payload(lambda data: data + b"\x00"), rewrite_payload(cut)
    ),
    "payload: relaxed JSON": one_of(
        rewrite_payload(lambda data: data.replace(b'"', b"'")),
        rewrite_payload(lambda data: data[:-1] + b",}"),
        rewrite_payload(insert(b'"x":01,')),
        rewrite_payload(insert(b'"x":+1,')),
        rewrite_payload(insert(b'"x":"\n",')),
    ),
}

MUTATIONS: Final = [Mutation(name, "payload", change) for name, change in PAYLOAD.items()]
