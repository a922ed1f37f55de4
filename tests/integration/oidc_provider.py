"""npm's oidc-provider as a process: the provider of most OpenID-certified servers on Node, on loopback."""

from __future__ import annotations

import json
import os
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

from authz.demo.client import send
from authz.demo.signing import SigningKey
from tests.fakes.idp import DISCOVERY
from tests.fakes.waiting import HANG_SECONDS
from tests.tools import path

_DRIVER: Final = Path(__file__).with_name("oidc_provider.mjs")
_BASIC: Final = "Basic " + b64encode(b"web:secret").decode()
_FORM: Final = "application/x-www-form-urlencoded"


def private_jwk(key: SigningKey, *, alg: bool = True) -> dict[str, object]:
    """Write a private key as an operator of the provider configures it, with its algorithm or without."""
    members: dict[str, object] = {**json.loads(key.jwk.export_private()), "kid": key.kid, "use": "sig"}
    return {**members, "alg": key.algorithm} if alg else members


class OidcProvider:
    """The process; a context manager. It serves after `start`, and again at the same URL after `stop` and `start`.

    *issuer* is that of another process which has ended; without it any free port will do. It trusts *authorities* too,
    a file of certificates.
    """

    def __init__(self, issuer: str = "", *, authorities: Path | None = None) -> None:
        command = [path("node"), str(_DRIVER), path("oidc-provider")]
        trusted = {} if authorities is None else {"NODE_EXTRA_CA_CERTS": str(authorities)}
        self._process = subprocess.Popen(
            command,
            env=os.environ | trusted,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.issuer = issuer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._process.kill()
        self._process.communicate(timeout=HANG_SECONDS)

    def _order(self, name: str, **order: object) -> Any:  # noqa: ANN401 - JSON
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([name, order]), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def start(self, *keys: Mapping[str, object], **settings: object) -> str:
        """Serve these private keys as `issuer`, and sign by the first that fits; return the issuer.

        *settings* are those of the driver.
        """
        port = int(self.issuer.rpartition(":")[2]) if self.issuer else 0
        self.issuer = self._order("start", keys=keys, port=port, **settings)
        return self.issuer

    def stop(self) -> None:
        """Close the port and every connection; what was issued is forgotten."""
        self._order("stop")

    def metadata(self) -> dict[str, Any]:
        """Fetch the discovery document."""
        document: dict[str, Any] = send(f"{self.issuer}{DISCOVERY}").json()
        return document

    def published(self) -> list[dict[str, Any]]:
        """Fetch the key set."""
        keys: list[dict[str, Any]] = send(self.metadata()["jwks_uri"]).json()["keys"]
        return keys

    def machine(self, audience: str, scope: str = "orders:read") -> str:
        """Get an access token by client_credentials, for a resource (RFC 8707)."""
        return str(self._grant(grant_type="client_credentials", resource=audience, scope=scope)["access_token"])

    def user(self, audience: str, name: str = "alice") -> tuple[str, str]:
        """Get the access token for a resource and the ID token of a user who has consented."""
        consent = self._order("consent", user=name, resource=audience)
        granted = self._grant(grant_type="refresh_token", refresh_token=consent)
        return granted["access_token"], granted["id_token"]

    def refresh_token(self, audience: str) -> str:
        """Return a refresh token of a user who has consented."""
        return str(self._order("consent", user="alice", resource=audience))

    def logout(self, user: str, session: str) -> str:
        """Send a logout token about a session of a user; return why it was not accepted, or an empty text."""
        return str(self._order("logout", user=user, session=session))

    def revoke(self, token: str) -> None:
        """Revoke a token (RFC 7009)."""
        headers = [("Authorization", _BASIC), ("Content-Type", _FORM)]
        url = self.metadata()["revocation_endpoint"]
        answer = send(url, method="POST", headers=headers, body=urlencode({"token": token}).encode())
        assert answer.status == 200, answer.body

    def _grant(self, **form: str) -> dict[str, Any]:
        headers = [("Authorization", _BASIC), ("Content-Type", _FORM)]
        url = self.metadata()["token_endpoint"]
        answer = send(url, method="POST", headers=headers, body=urlencode(form).encode())
        assert answer.status == 200, answer.body
        granted: dict[str, Any] = answer.json()
        return granted
