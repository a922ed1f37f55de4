"""A client of DPoP in Python: gets a token, asks for each URL in turn, and prints the statuses of the answers.

python dpop_clients.py <client> <issuer> <resource> <url>...
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

GRANT: Final = {"grant_type": "client_credentials", "scope": "orders:read"}
seen: list[int] = []


def requests_oauth2client(issuer: str, resource: str) -> Callable[[str], object]:
    """Authenticate a session of requests by a token that its client got."""
    import requests  # noqa: PLC0415 - one client each
    from requests_oauth2client import (  # type: ignore[import-not-found]  # noqa: PLC0415
        OAuth2Client,
        dpop,
    )

    class Counting(requests.adapters.HTTPAdapter):
        def send(self, *request: Any, **how: Any) -> Any:  # noqa: ANN401
            answer = super().send(*request, **how)
            seen.append(answer.status_code)
            return answer

    client = OAuth2Client(f"{issuer}/token", client_id="web", client_secret="secret", testing=True)
    token = client.client_credentials(scope="orders:read", resource=resource, dpop=True)
    session = requests.Session()
    session.mount("http://", Counting())

    def ask(url: str) -> None:
        with suppress(dpop.MissingDPoPNonce):  # which it raises at a proof that was refused too
            session.get(url, auth=token)

    return ask


def pydpop(issuer: str, resource: str) -> Callable[[str], object]:
    """Authenticate a client of httpx by proofs."""
    import httpx  # type: ignore[import-not-found]  # noqa: PLC0415
    from pydpop import generate_key  # type: ignore[import-not-found]  # noqa: PLC0415
    from pydpop.integrations.httpx import DPoPAuth  # type: ignore[import-not-found]  # noqa: PLC0415

    key, form = generate_key(alg="ES256"), {**GRANT, "resource": resource}
    basic = {"authorization": httpx.BasicAuth("web", "secret")._auth_header}  # auth= is for the proof
    answer = httpx.post(f"{issuer}/token", data=form, headers=basic, auth=DPoPAuth(key)).json()
    token = answer["access_token"]
    client = httpx.Client(
        auth=DPoPAuth(key, access_token=token),
        headers={"authorization": f"DPoP {token}"},
        event_hooks={"response": [lambda response: seen.append(response.status_code)]},
    )
    return client.get  # type: ignore[no-any-return]


CLIENTS: Final = {"requests_oauth2client": requests_oauth2client, "pydpop": pydpop}


def main(client: str, issuer: str, resource: str, *urls: str) -> None:
    """Ask."""
    ask = CLIENTS[client](issuer, resource)
    statuses = []
    for url in urls:
        seen.clear()
        ask(url)
        statuses.append(seen.copy())
    sys.stdout.write(json.dumps(statuses))


if __name__ == "__main__":
    main(*sys.argv[1:])
