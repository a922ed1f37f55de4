"""Microsoft Entra ID, with two tenants."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from authz.core import base64url
from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, certificate, discovery, fails, jwk, passes

_LOGIN: Final = "https://login.microsoftonline.com"
_STS: Final = "https://sts.windows.net"
_CONTOSO: Final = "11111111-1111-4111-8111-111111111111"
_FABRIKAM: Final = "22222222-2222-4222-8222-222222222222"
_CONSUMERS: Final = "9188040d-6c67-4c5b-b112-36a304b66dad"
_API: Final = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
_APP: Final = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
_ALICE: Final = "690222be-ff1a-4d56-abd1-7e4f7d38e474"
_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "POST https://api.example.com/orders"
_BATCH: Final = "POST https://api.example.com/batch/1"

_USER: Final = Token(
    kid="entra-shared",
    header={"typ": "JWT"},
    claims={
        "aud": _API,
        "iss": f"{_LOGIN}/{_CONTOSO}/v2.0",
        "iat": T - 60,
        "nbf": T - 60,
        "exp": T + 4740,
        "aio": "AXQAi/8IAAAA",
        "azp": _APP,
        "azpacr": "0",
        "name": "Alice",
        "oid": _ALICE,
        "preferred_username": "alice@contoso.example",
        "rh": "0.AX0A",
        "roles": ["Order.Editor"],
        "scp": "Orders.Read Orders.Write",
        "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
        "tid": _CONTOSO,
        "uti": "fqiBqXLPj0eQa82S-IYFAA",
        "ver": "2.0",
    },
)
_APPLICATION: Final = _USER.but(
    azpacr="1",
    name=ABSENT,
    preferred_username=ABSENT,
    scp=ABSENT,
    oid=_APP,
    sub=_APP,
    idtyp="app",
    roles=["Orders.Process.All"],
)
_V1: Final = _USER.but(
    header={"x5t": "entra-shared"},
    aud="api://orders",
    iss=f"{_STS}/{_CONTOSO}/",
    acr="1",
    amr=["pwd", "mfa"],
    appid=_APP,
    appidacr="0",
    azp=ABSENT,
    azpacr=ABSENT,
    preferred_username=ABSENT,
    unique_name="alice@contoso.example",
    ver="1.0",
)


def _in_tenant(tenant: str) -> Token:
    return _USER.but(iss=f"{_LOGIN}/{tenant}/v2.0", tid=tenant)


class _GraphToken(Token):
    """A token for Microsoft Graph: a hash of its nonce is signed in place of the nonce."""

    def __str__(self) -> str:
        nonce = str(self.header["nonce"])
        hashed = base64url.encode(hashlib.sha256(nonce.encode()).digest()).decode()
        signed = str(Token(claims=self.claims, kid=self.kid, header={**self.header, "nonce": hashed}))
        header = json.dumps({"alg": self.algorithm, "kid": self.kid, **self.header}).encode()
        return f"{base64url.encode(header).decode()}.{signed.partition('.')[2]}"


_GRAPH: Final = _GraphToken(
    kid="entra-shared",
    header={"typ": "JWT", "nonce": "AQABAAAAAABnfiG-mA6NTae7CdWW7Qfd", "x5t": "entra-shared"},
    claims={**_V1.claims, "aud": "00000003-0000-0000-c000-000000000000"},
)


def _serve() -> dict[str, object]:
    keys = {
        # Without alg, and with an issuer of its own that says whom it signs for.
        "keys": [
            jwk(kid, alg=ABSENT, x5t=kid, x5c=certificate(kid), issuer=f"{_LOGIN}/{{tenantid}}/v2.0")
            for kid in ("entra-shared", "entra-next")
        ]
    }
    served: dict[str, object] = {}
    for tenant in (_CONTOSO, _FABRIKAM):
        served |= discovery(f"{_LOGIN}/{tenant}/v2.0", f"{_LOGIN}/{tenant}/discovery/v2.0/keys")
        served |= {f"{_LOGIN}/{tenant}/discovery/v2.0/keys": keys, f"{_LOGIN}/common/discovery/keys": keys}
    v1 = f"{_LOGIN}/{_CONTOSO}/.well-known/openid-configuration"
    common = f"{_LOGIN}/common/v2.0/.well-known/openid-configuration"
    return {
        **served,
        **discovery(f"{_STS}/{_CONTOSO}/", f"{_LOGIN}/common/discovery/keys", at=v1),
        **discovery(f"{_LOGIN}/{{tenantid}}/v2.0", f"{_LOGIN}/common/discovery/v2.0/keys", at=common),
    }


RECIPE: Final = Recipe(
    name="entra",
    serves=_serve,
    cases=(
        passes(
            "a user of one tenant",
            _WRITE,
            _USER,
            subject=_ALICE,
            tenant=_CONTOSO,
            issuer=f"{_LOGIN}/{_CONTOSO}/v2.0",
            client=_APP,
        ),
        passes(
            "a user of the other tenant",
            _READ,
            _in_tenant(_FABRIKAM),
            subject=_ALICE,
            tenant=_FABRIKAM,
            issuer=f"{_LOGIN}/{_FABRIKAM}/v2.0",
            client=_APP,
        ),
        passes("a v1.0 token", _READ, _V1, subject=_ALICE, tenant=_CONTOSO, issuer=f"{_STS}/{_CONTOSO}/", client=_APP),
        passes(
            "an application",
            _BATCH,
            _APPLICATION,
            subject=_APP,
            tenant=_CONTOSO,
            issuer=f"{_LOGIN}/{_CONTOSO}/v2.0",
            client=_APP,
        ),
        fails("any other tenant, by the same key", _READ, _in_tenant("3" * 8), Reason.ISSUER_UNKNOWN),
        fails("a personal account", _READ, _in_tenant(_CONSUMERS), Reason.ISSUER_UNKNOWN),
        fails("a v1.0 token of the other tenant", _READ, _V1.but(iss=f"{_STS}/{_FABRIKAM}/"), Reason.ISSUER_UNKNOWN),
        fails("a token for Microsoft Graph", _READ, _GRAPH, Reason.SIGNATURE_INVALID),
        fails("an ID token of another application", _READ, _USER.but(aud=_APP, scp=ABSENT), Reason.AUDIENCE_MISMATCH),
        fails("an ID token of the API itself", _READ, _USER.but(scp=ABSENT), Reason.INSUFFICIENT_SCOPE),
        fails("the API's URI in a v2.0 token", _READ, _USER.but(aud="api://orders"), Reason.AUDIENCE_MISMATCH),
        fails("the role in the other tenant", _WRITE, _in_tenant(_FABRIKAM), Reason.POLICY_DENIED),
        fails("a user with the role alone", _WRITE, _USER.but(scp="Orders.Read"), Reason.INSUFFICIENT_SCOPE),
        fails("an application without the role", _BATCH, _APPLICATION.but(roles=ABSENT), Reason.POLICY_DENIED),
        fails("a user without the role", _WRITE, _USER.but(roles=ABSENT), Reason.POLICY_DENIED),
        fails(
            "a user with an application's role", _BATCH, _USER.but(roles=["Orders.Process.All"]), Reason.POLICY_DENIED
        ),
        fails("an application where users are wanted", _READ, _APPLICATION, Reason.INSUFFICIENT_SCOPE),
        fails("an expired token", _READ, _USER.but(iat=T - 4860, nbf=T - 4860, exp=T - 60), Reason.TOKEN_EXPIRED),
    ),
)
