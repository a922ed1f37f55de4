#!/usr/bin/env bash
# A SPIFFE trust bundle is a JWK set; the keys that verify JWT-SVIDs say `"use": "jwt-svid"`. RFC 7517 (section 4.2) allows
# values of `use` other than sig and enc.
# Expected: a JOSE library reads such a set, and verifies a JWT-SVID by it, or says that the use is not known to it.
# Seen: five of seven do not verify, and say that there is no key, as if the key id were wrong; joserfc takes the whole set for
# malformed. go-jose and keyfunc, which look at no `use`, verify. So the same bundle works in one service and not in the next.
. "$(dirname "$0")/lib.sh"
pip_install python jwcrypto==1.6.1 joserfc==1.8.0
npm_install jose@6.2.18 jwks-rsa@4.1.0
cp "$findings/key_sets/main.go" main.go
go_module github.com/go-jose/go-jose/v4@v4.1.9 github.com/lestrrat-go/jwx/v3@v3.4.0 \
    github.com/MicahParks/keyfunc/v3@v3.9.2 github.com/golang-jwt/jwt/v5@v5.3.1
go build -o verify .
python/bin/python > seen.txt <<'PYTHON'
import json
from pathlib import Path

from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from jwcrypto import jwk, jwt

from make_token import KEY, token

bundle = json.dumps({"spiffe_refresh_hint": 300, "keys": [{**KEY.export_public(as_dict=True), "use": "jwt-svid"}]})
Path("bundle.json").write_text(bundle)
Path("token.jwt").write_text(token())
for name, verify in (
    ("jwcrypto", lambda: jwt.JWT(jwt=token(), key=jwk.JWKSet.from_json(bundle), expected_type="JWS")),
    ("joserfc", lambda: joserfc_jwt.decode(token(), KeySet.import_key_set(json.loads(bundle)), algorithms=["ES256"])),
):
    try:
        verify()
        print(f"    {name}: verified")
    except Exception as error:
        print(f"    {name}: {type(error).__name__}: {error}")
PYTHON
cat > run.mjs <<'JS'
import { readFileSync } from 'node:fs';
import * as jose from 'jose';
import jwksRsa from 'jwks-rsa';

const bundle = JSON.parse(readFileSync('bundle.json'));
const token = readFileSync('token.jwt', 'utf8');
const report = async (name, verify) => {
  try { await verify(); console.log(`    ${name}: verified`); } catch (error) { console.log(`    ${name}: ${error.code ?? error.name}: ${error.message}`); }
};
await report('jose', () => jose.jwtVerify(token, jose.createLocalJWKSet(bundle)));
await report('jwks-rsa', () => jwksRsa({ jwksUri: 'http://issuer.example/', getKeysInterceptor: () => bundle.keys, fetcher: () => bundle }).getSigningKey('k1'));
JS
node run.mjs >> seen.txt
./verify bundle.json token.jwt | sed 's/the whole set is refused/not verified/' >> seen.txt
compare seen.txt <<'SEEN'
    jwcrypto: JWTMissingKey: Missing Key
    joserfc: KeyParameterError: key_parameter: 'use' must be one of ['sig', 'enc']
    jose: ERR_JWKS_NO_MATCHING_KEY: no applicable key found in the JSON Web Key Set
    jwks-rsa: JwksError: The JWKS endpoint did not contain any signing keys
    go-jose: verified
    jwx: not verified
    keyfunc: verified
SEEN
