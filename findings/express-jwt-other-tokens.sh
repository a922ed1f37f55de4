#!/usr/bin/env bash
# A JWT of one kind is no other kind (RFC 8725, section 3.11): RFC 9068, section 4, has a resource server refuse any typ but
# at+jwt; a logout token has typ logout+jwt, and an event secevent+jwt.
# Expected: express-oauth2-jwt-bearer, which validates access tokens, refuses a JWT whose typ says that it is something else.
# Seen: without `strict: true`, which is off by default, typ is not read: any JWT of the issuer for this audience is an access
# token, a logout token too. oauth4webapi takes at+jwt alone. This sidecar takes at+jwt, JWT and none (token_types), and no
# token with the logout event.
. "$(dirname "$0")/lib.sh"
npm_install express-oauth2-jwt-bearer@1.10.0 oauth4webapi@3.8.8 jose@6.2.18
cat > run.mjs <<'JS'
import { createServer } from 'node:http';
import * as jose from 'jose';
import * as oauth from 'oauth4webapi';
import { auth } from 'express-oauth2-jwt-bearer';

const { publicKey, privateKey } = await jose.generateKeyPair('RS256');
const jwks = { keys: [{ ...await jose.exportJWK(publicKey), alg: 'RS256', kid: 'k' }] };
const server = createServer((_, answer) => answer.end(JSON.stringify(jwks)));
await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
const jwksUri = `http://127.0.0.1:${server.address().port}/`;
const [issuer, audience, url] = ['https://login.example', 'https://api.example', 'https://api.example/orders'];

async function express(token, options) {
  const headers = { host: 'api.example', authorization: `Bearer ${token}` };
  const request = { headers, method: 'GET', protocol: 'https', originalUrl: '/orders', is: () => false, get: (name) => headers[name.toLowerCase()] };
  const error = await new Promise((next) => { auth({ issuer, audience, jwksUri, ...options })(request, {}, next); });
  return error ? error.code : 'accepted';
}

async function oauth4webapi(token) {
  try {
    await oauth.validateJwtAccessToken({ issuer, jwks_uri: jwksUri }, new Request(url, { headers: { authorization: `Bearer ${token}` } }), audience, { [oauth.allowInsecureRequests]: true });
    return 'accepted';
  } catch (error) { return error.code; }
}

for (const typ of ['at+jwt', 'logout+jwt', 'secevent+jwt']) {
  const token = await new jose.SignJWT({ client_id: 'web', jti: 'j' }).setProtectedHeader({ alg: 'RS256', kid: 'k', typ })
    .setIssuer(issuer).setAudience(audience).setSubject('alice').setIssuedAt().setExpirationTime('5m').sign(privateKey);
  console.log(typ, '| by default:', await express(token), '| strict:', await express(token, { strict: true }), '| oauth4webapi:', await oauth4webapi(token));
}
server.close();
JS
node run.mjs > seen.txt
compare seen.txt <<'SEEN'
at+jwt | by default: accepted | strict: accepted | oauth4webapi: accepted
logout+jwt | by default: accepted | strict: invalid_token | oauth4webapi: OAUTH_INVALID_RESPONSE
secevent+jwt | by default: accepted | strict: invalid_token | oauth4webapi: OAUTH_INVALID_RESPONSE
SEEN
