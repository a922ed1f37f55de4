#!/usr/bin/env bash
# A token that is bound to a key has `cnf`, with the key's thumbprint as `jkt` (RFC 9449, section 6). `cnf` may have more
# members, and those that are not understood are ignored (RFC 7800, section 3.1). Keycloak 26.7 adds "kc-jkt-type".
# Expected: a resource server that gets such a token with a good proof accepts it.
# Seen: express-oauth2-jwt-bearer does. validateJwtAccessToken of oauth4webapi has the same token with the same proof for
# unsupported as soon as `cnf` has a second member, so it can stand behind Keycloak only without DPoP. With `jkt` alone both accept.
. "$(dirname "$0")/lib.sh"
npm_install oauth4webapi@3.8.8 express-oauth2-jwt-bearer@1.10.0 jose@6.2.18
cat > run.mjs <<'JS'
import { createServer } from 'node:http';
import { createHash, randomUUID } from 'node:crypto';
import * as jose from 'jose';
import * as oauth from 'oauth4webapi';
import bearer from 'express-oauth2-jwt-bearer';

const issuer = 'https://issuer.example', audience = 'orders', url = 'https://api.example/orders';
const ours = await jose.generateKeyPair('RS256'), theirs = await jose.generateKeyPair('ES256');
const keys = { keys: [{ ...(await jose.exportJWK(ours.publicKey)), kid: '1', alg: 'RS256', use: 'sig' }] };
const server = createServer((_, answer) => answer.setHeader('content-type', 'application/json').end(JSON.stringify(keys)));
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const jwksUri = `http://127.0.0.1:${server.address().port}/keys`;
const middleware = bearer.auth({ issuer, jwksUri, audience });
const jwk = await jose.exportJWK(theirs.publicKey), jkt = await jose.calculateJwkThumbprint(jwk);

for (const cnf of [{ jkt }, { jkt, 'kc-jkt-type': 'client' }]) {
  const token = await new jose.SignJWT({ cnf, client_id: 'app' }).setProtectedHeader({ alg: 'RS256', kid: '1', typ: 'at+jwt' })
    .setIssuer(issuer).setAudience(audience).setSubject('eve').setJti('1').setIssuedAt().setExpirationTime('5m').sign(ours.privateKey);
  const proof = await new jose.SignJWT({ htm: 'GET', htu: url, ath: createHash('sha256').update(token).digest('base64url') })
    .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk }).setJti(randomUUID()).setIssuedAt().sign(theirs.privateKey);
  const headers = { host: 'api.example', authorization: `DPoP ${token}`, dpop: proof };

  const request = {
    method: 'GET', headers, protocol: 'https', originalUrl: '/orders', url: '/orders', query: {}, is: () => false,
    get: (name) => headers[name.toLowerCase()],
  };
  const express = await new Promise((next) => { middleware(request, {}, (error) => next(error?.message ?? 'accepted')); });
  const sent = new Headers({ authorization: headers.authorization, dpop: proof });
  const web = await oauth.validateJwtAccessToken(
    { issuer, jwks_uri: jwksUri }, new Request(url, { headers: sent }), audience, { [oauth.allowInsecureRequests]: true },
  ).then(() => 'accepted', (error) => `${error.code}: ${error.message}`);
  console.log(`cnf has ${Object.keys(cnf).join(' and ')} | express-oauth2-jwt-bearer: ${express} | oauth4webapi: ${web}`);
}
server.close();
JS
node run.mjs > seen.txt
compare seen.txt <<'SEEN'
cnf has jkt | express-oauth2-jwt-bearer: accepted | oauth4webapi: accepted
cnf has jkt and kc-jkt-type | express-oauth2-jwt-bearer: accepted | oauth4webapi: OAUTH_UNSUPPORTED_OPERATION: multiple confirmation claims are not supported
SEEN
