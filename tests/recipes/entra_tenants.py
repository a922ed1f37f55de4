"""Microsoft Entra ID, by the endpoint of all tenants."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT
from tests.recipes.entra import RECIPE as ENTRA
from tests.recipes.recipe import Recipe, Token, certificate, discovery, fails, jwk, passes

_LOGIN: Final = "https://login.microsoftonline.com"
_CONTOSO: Final = "11111111-1111-4111-8111-111111111111"
_FABRIKAM: Final = "22222222-2222-4222-8222-222222222222"
_STRANGER: Final = "33333333-3333-4333-8333-333333333333"
_CONSUMERS: Final = "9188040d-6c67-4c5b-b112-36a304b66dad"
_API: Final = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
_KEYS: Final = f"{_LOGIN}/common/discovery/v2.0/keys"
_READ: Final = "GET https://api.example.com/orders/7"
_WRITE: Final = "POST https://api.example.com/orders"

_USER: Final[Token] = next(case.token for case in ENTRA.cases if case.proves == "a user of one tenant")  # type: ignore[assignment]
_WHO: Final = {"subject": str(_USER.claims["oid"]), "client": str(_USER.claims["azp"])}


def _of(tenant: str) -> Token:
    return _USER.but(iss=f"{_LOGIN}/{tenant}/v2.0", tid=tenant)


RECIPE: Final = Recipe(
    name="entra-tenants",
    serves=lambda: {
        **discovery(f"{_LOGIN}/{{tenantid}}/v2.0", _KEYS, at=f"{_LOGIN}/common/v2.0/.well-known/openid-configuration"),
        _KEYS: {
            "keys": [
                jwk(kid, alg=ABSENT, x5t=kid, x5c=certificate(kid), issuer=f"{_LOGIN}/{{tenantid}}/v2.0")
                for kid in ("entra-shared", "entra-next")
            ]
            + [jwk("entra-personal", alg=ABSENT, issuer=f"{_LOGIN}/{_CONSUMERS}/v2.0")]
        },
    },
    cases=(
        *(
            passes(f"a user of {name}", _READ, _of(tenant), tenant=tenant, issuer=f"{_LOGIN}/{tenant}/v2.0", **_WHO)
            for name, tenant in (("one tenant", _CONTOSO), ("another", _FABRIKAM))
        ),
        passes("an editor", _WRITE, _of(_CONTOSO), tenant=_CONTOSO, issuer=f"{_LOGIN}/{_CONTOSO}/v2.0", **_WHO),
        fails("a tenant that is not listed, by the same key", _READ, _of(_STRANGER), Reason.ISSUER_UNKNOWN),
        fails("a tenant by the key of personal accounts", _READ, _USER.by("entra-personal"), Reason.KEY_UNUSABLE),
        fails("a personal account", _READ, _of(_CONSUMERS), Reason.ISSUER_UNKNOWN),
        fails("the placeholder itself", _READ, _of("{tenantid}"), Reason.ISSUER_UNKNOWN),
        fails("common, which is no tenant", _READ, _of("common"), Reason.ISSUER_UNKNOWN),
        fails("a tenant with a slash", _READ, _USER.but(iss=f"{_LOGIN}/{_CONTOSO}/v2.0/"), Reason.ISSUER_UNKNOWN),
        fails("a tenant in capitals", _READ, _of("AAAAAAAA-1111-4111-8111-111111111111"), Reason.ISSUER_UNKNOWN),
        fails(
            "the v1.0 issuer of a tenant",
            _READ,
            _USER.but(iss=f"https://sts.windows.net/{_CONTOSO}/"),
            Reason.ISSUER_UNKNOWN,
        ),
        fails("an editor of the other tenant", _WRITE, _of(_FABRIKAM), Reason.POLICY_DENIED),
        fails("a user without the role", _WRITE, _USER.but(roles=ABSENT), Reason.POLICY_DENIED),
        fails("an editor without the scope", _WRITE, _USER.but(scp="Orders.Read"), Reason.INSUFFICIENT_SCOPE),
        fails("an ID token of the API itself", _READ, _USER.but(scp=ABSENT), Reason.INSUFFICIENT_SCOPE),
        fails("a token for another API", _READ, _USER.but(aud=_API.replace("a", "c")), Reason.AUDIENCE_MISMATCH),
    ),
)
