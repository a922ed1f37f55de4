"""How input is generated, and how much of it."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st

from authz.core.request import Request
from tests.fixtures import A, B, T

# An attack gets twice the examples that the profile gives any other law.
bounded: Final = settings(max_examples=2 * settings().max_examples)

texts: Final = st.text(st.characters(exclude_categories=()), max_size=40)  # surrogates included
scalars: Final = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
json_values: Final = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)
# Values that mean something to a claim, beside those that mean nothing.
meaningful: Final[st.SearchStrategy[object]] = st.sampled_from(
    [
        A,
        B,
        "api",
        "bob",
        "admin",
        T,
        T - 1,
        T + 300,
        T + 0.5,
        0,
        -1,
        1e300,
        ["api"],
        ["admin", 1],
        {},
        [],
        "",
        None,
        True,
    ]
)
claim_names: Final = st.sampled_from(
    [
        "iss",
        "aud",
        "sub",
        "exp",
        "nbf",
        "iat",
        "jti",
        "cnf",
        "events",
        "groups",
        "scope",
        "scp",
        "acr",
        "amr",
        "auth_time",
    ]
)
claim_changes: Final = st.dictionaries(claim_names | st.text(max_size=6), meaningful | json_values, max_size=6)
header_changes: Final = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "zip"]) | st.text(max_size=6),
    st.sampled_from(["RS256", "ES256", "HS256", "none", "a-rsa", "a-ec", "JWT"]) | json_values,
    max_size=5,
)
segments: Final = st.sampled_from(
    ["public", "mixed", "admin", "items", "..", ".", "", "%2e%2e", "a;b", "%2F", "%61dmin"]
)
paths: Final = st.lists(segments | texts, max_size=5).map(lambda parts: "/" + "/".join(parts)) | texts
names: Final = (
    st.sampled_from(["authorization", "cookie", "x-user-id", "host", "connection", "origin", "upgrade"]) | texts
)


def requests(authorization: st.SearchStrategy[str] = texts) -> st.SearchStrategy[Request]:
    """Generate requests, well formed and not, with something in the Authorization header."""
    headers = st.dictionaries(names, texts, max_size=5)
    bearer: st.SearchStrategy[dict[str, str]] = authorization.map(lambda text: {"authorization": text}) | st.just({})
    merged: st.SearchStrategy[Any] = st.tuples(headers, bearer).map(lambda pair: {**pair[0], **pair[1]})
    return st.builds(
        Request,
        method=st.sampled_from(["GET", "POST", "get", "OPTIONS"]) | texts,
        host=st.sampled_from(["api.test", "API.test.:443"]) | texts,
        path=paths,
        scheme=st.sampled_from(["https", "http"]) | texts,
        protocol=texts,
        headers=merged,
        context=st.dictionaries(texts, texts, max_size=2),
        source_address=texts,
        certificate=texts,
    )
