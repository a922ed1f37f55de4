#!/usr/bin/env bash
# Introspection answers {"active": false} for any token that it can say nothing about (RFC 7662, section 2.2), with 200.
# Expected: oidc-provider says of a JWT access token that it has issued itself {"active": true}, or else {"active": false}.
# Seen: 400 unsupported_token_type, an error that RFC 7009 defines for revocation; nonsense gets {"active": false}. A resource
# server that takes every status but 200 for an outage of the issuer answers 503 to good tokens.
. "$(dirname "$0")/lib.sh"
npm_install oidc-provider@9.13.3
cat > run.mjs <<'JS'
import http from 'node:http';
import { Provider } from 'oidc-provider';

const server = http.createServer((request, response) => provider.callback()(request, response));
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const machine = { client_secret: 'secret', redirect_uris: [], response_types: [] };
const provider = new Provider(issuer, {
  clients: [{ ...machine, client_id: 'app', grant_types: ['client_credentials'], scope: 'read' }, { ...machine, client_id: 'api', grant_types: [] }],
  scopes: ['read'],
  features: {
    devInteractions: { enabled: false }, clientCredentials: { enabled: true }, introspection: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({ scope: 'read', audience: resource, accessTokenFormat: resource.includes('jwt') ? 'jwt' : 'opaque' }),
    },
  },
  ttl: { ClientCredentials: 3600 },
});
const post = async (path, client, form) => {
  const authorization = `Basic ${btoa(`${client}:secret`)}`;
  const answer = await fetch(issuer + path, { method: 'POST', headers: { authorization }, body: new URLSearchParams(form) });
  return [answer.status, await answer.json()];
};
const issue = async (resource) => (await post('/token', 'app', { grant_type: 'client_credentials', scope: 'read', resource }))[1].access_token;
for (const [label, token] of [
  ['opaque token', await issue('https://opaque.example')],
  ['JWT', await issue('https://jwt.example')],
  ['nonsense', 'nonsense'],
]) {
  const [status, { active, error }] = await post('/token/introspection', 'api', { token });
  console.log(`${label}: ${status}`, JSON.stringify({ active, error }));
}
server.close();
JS
node run.mjs 2> /dev/null | grep -v NOTICE > seen.txt
compare seen.txt <<'SEEN'
opaque token: 200 {"active":true}
JWT: 400 {"error":"unsupported_token_type"}
nonsense: 200 {"active":false}
SEEN
