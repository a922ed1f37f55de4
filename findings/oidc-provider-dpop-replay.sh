#!/usr/bin/env bash
# A DPoP proof may be used once. What is wrong with a proof is `invalid_dpop_proof`; `invalid_token` says that the access
# token is expired, revoked or malformed, and a client then drops it (RFC 9449, section 7.1; RFC 6750, section 3.1).
# Expected: oidc-provider's userinfo endpoint answers a proof that it has seen with invalid_dpop_proof.
# Seen: it answers invalid_token; the same token with a new proof is good. A client that takes the answer at its word gets a
# new token, or signs the user out, because a request was sent twice.
. "$(dirname "$0")/lib.sh"
npm_install oidc-provider@9.13.3 dpop@2.1.2
cat > run.mjs <<'JS'
import http from 'node:http';
import * as dpop from 'dpop';
import { Provider } from 'oidc-provider';

const server = http.createServer((request, response) => provider.callback()(request, response));
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{ client_id: 'app', client_secret: 'secret', redirect_uris: ['https://app.example/cb'] }],
  features: { devInteractions: { enabled: false }, dPoP: { enabled: true } },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  ttl: { AccessToken: 3600, Grant: 3600 },
});
const keys = await dpop.generateKeyPair('ES256');
const grant = new provider.Grant({ accountId: 'account-1', clientId: 'app' });
grant.addOIDCScope('openid');
const token = new provider.AccessToken({
  accountId: 'account-1', client: await provider.Client.find('app'), grantId: await grant.save(),
  gty: 'authorization_code', scope: 'openid', claims: {},
});
token.setThumbprint('jkt', await dpop.calculateThumbprint(keys.publicKey));
const text = await token.save();
const proof = () => dpop.generateProof(keys, `${issuer}/me`, 'GET', undefined, text);
const ask = async (label, dpopProof) => {
  const answer = await fetch(`${issuer}/me`, { headers: { authorization: `DPoP ${text}`, dpop: dpopProof } });
  console.log(`${label}: ${answer.status}`, await answer.text());
};
const first = await proof();
await ask('first use', first);
await ask('the same proof again', first);
await ask('a new proof', await proof());
server.close();
JS
node run.mjs 2> /dev/null | grep -v NOTICE > seen.txt
compare seen.txt <<'SEEN'
first use: 200 {"sub":"account-1"}
the same proof again: 401 {"error":"invalid_token","error_description":"invalid token provided"}
a new proof: 200 {"sub":"account-1"}
SEEN
