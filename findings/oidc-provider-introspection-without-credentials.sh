#!/usr/bin/env bash
# A protected resource must authenticate to ask about a token; what it gets if it does not is 401 (RFC 7662, section 2.3).
# Expected: oidc-provider answers 401 to a request without credentials, to a wrong secret, and to credentials that are no Basic.
# Seen: 401 for the wrong secret alone. Without credentials, or with some that it cannot read, it is 400 invalid_request, the
# status for a bad question. A resource server that takes 400 for a fault of the caller's token denies every good token while
# its own credentials are missing.
. "$(dirname "$0")/lib.sh"
npm_install oidc-provider@9.13.3
cat > run.mjs <<'JS'
import http from 'node:http';
import { Provider } from 'oidc-provider';

const server = http.createServer((request, response) => provider.callback()(request, response));
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{ client_id: 'api', client_secret: 'secret', redirect_uris: [], response_types: [], grant_types: [] }],
  features: { devInteractions: { enabled: false }, introspection: { enabled: true, allowedPolicy: () => true } },
});
for (const [label, headers] of [
  ['right secret', { authorization: `Basic ${btoa('api:secret')}` }],
  ['wrong secret', { authorization: `Basic ${btoa('api:other')}` }],
  ['no credentials', {}],
  ['Basic without a colon', { authorization: `Basic ${btoa('api')}` }],
]) {
  const answer = await fetch(`${issuer}/token/introspection`, { method: 'POST', headers, body: new URLSearchParams({ token: 'x' }) });
  const { active, error } = await answer.json();
  console.log(`${label}: ${answer.status}`, JSON.stringify({ active, error }));
}
server.close();
JS
node run.mjs 2> /dev/null | grep -v NOTICE > seen.txt
compare seen.txt <<'SEEN'
right secret: 200 {"active":false}
wrong secret: 401 {"error":"invalid_client"}
no credentials: 400 {"error":"invalid_request"}
Basic without a colon: 400 {"error":"invalid_request"}
SEEN
