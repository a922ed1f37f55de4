#!/usr/bin/env bash
# The htu of a DPoP proof is the URL of the request without query and fragment (RFC 9449, section 4.2).
# Expected: npm's dpop, which makes proofs, takes the URL that is about to be requested and leaves these two out.
# Seen: it signs the text that it is given: query and fragment stay, and an upper-case host, a default port and an empty path
# too. oauth4webapi writes the normal form of the same URL. A verifier that compares as the RFC says
# (syntax-based normalization) must still drop the proof's query, or such clients fail on each request that has one.
. "$(dirname "$0")/lib.sh"
npm_install dpop@2.1.2 oauth4webapi@3.8.8
cat > run.mjs <<'JS'
import * as dpop from 'dpop';
import * as oauth from 'oauth4webapi';

const keys = await oauth.generateKeyPair('ES256');
const htu = (proof) => JSON.parse(Buffer.from(proof.split('.')[1], 'base64url')).htu;
for (const url of ['https://api.example/orders?page=2', 'https://api.example/orders#top', 'https://API.example:443']) {
  let sent;
  await oauth.protectedResourceRequest('token', 'GET', new URL(url), new Headers(), null, {
    DPoP: oauth.DPoP({ client_id: 'app' }, keys),
    [oauth.customFetch]: async (_, options) => { sent = new Headers(options.headers).get('dpop'); return new Response('{}'); },
  });
  console.log(url, '-> dpop:', htu(await dpop.generateProof(keys, url, 'GET')), '| oauth4webapi:', htu(sent));
}
JS
node run.mjs > seen.txt
compare seen.txt <<'SEEN'
https://api.example/orders?page=2 -> dpop: https://api.example/orders?page=2 | oauth4webapi: https://api.example/orders
https://api.example/orders#top -> dpop: https://api.example/orders#top | oauth4webapi: https://api.example/orders
https://API.example:443 -> dpop: https://API.example:443 | oauth4webapi: https://api.example/
SEEN
