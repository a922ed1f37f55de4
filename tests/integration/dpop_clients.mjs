// A client of DPoP on Node: gets a token of its own, asks for each URL in turn, and prints the statuses of the answers.
// node dpop_clients.mjs <client> <node_modules> <issuer> <resource> <url>...
import { pathToFileURL } from 'node:url';

const [client, modules, issuer, resource, ...urls] = process.argv.slice(2);
const load = async (file) => import(pathToFileURL(`${modules}/${file}`));

// Every answer that the client got, whatever it makes of it.
let seen = [];
const { fetch } = globalThis;
globalThis.fetch = async (...request) => {
  const response = await fetch(...request);
  seen.push(response.status);
  return response;
};

const BODY = { grant_type: 'client_credentials', resource, scope: 'orders:read' };
const BASIC = `Basic ${btoa('web:secret')}`;

// The token of clients that leave the token endpoint to others.
async function fetchToken(prove) {
  const url = `${issuer}/token`;
  const headers = { authorization: BASIC, dpop: await prove(url, 'POST') };
  const answer = await (await fetch(url, { method: 'POST', headers, body: new URLSearchParams(BODY) })).json();
  if (answer.token_type !== 'DPoP') throw new Error(JSON.stringify(answer));
  return answer.access_token;
}

// As an application does that signs proofs by a library: it repeats a request once, with the nonce of the challenge.
async function byHand(prove) {
  const token = await fetchToken(prove);
  return async (url) => {
    let nonce;
    for (let left = 2; left; left -= 1) {
      const headers = { authorization: `DPoP ${token}`, dpop: await prove(url, 'GET', nonce, token) };
      const answer = await globalThis.fetch(url, { headers });
      if (!/DPoP.*error="use_dpop_nonce"/.test(answer.headers.get('www-authenticate') ?? '')) return;
      nonce = answer.headers.get('dpop-nonce');
    }
  };
}

async function oauth4webapi(name) {
  const oauth = await load(`${name}/build/index.js`);
  const insecure = { [oauth.allowInsecureRequests]: true };
  const server = await oauth.processDiscoveryResponse(
    new URL(issuer), await oauth.discoveryRequest(new URL(issuer), insecure),
  );
  const us = { client_id: 'web' };
  const DPoP = oauth.DPoP(us, await oauth.generateKeyPair('ES256'));
  const how = { ...insecure, DPoP };
  const { access_token: token } = await oauth.processClientCredentialsResponse(server, us,
    await oauth.clientCredentialsGrantRequest(server, us, oauth.ClientSecretBasic('secret'), BODY, how));
  const ask = (url) => oauth.protectedResourceRequest(token, 'GET', new URL(url), undefined, undefined, how);
  return async (url) => {
    try {
      await ask(url);
    } catch (error) {
      if (oauth.isDPoPNonceError(error)) await ask(url);
      else if (!(error instanceof oauth.WWWAuthenticateChallengeError)) throw error;
    }
  };
}

const clients = {
  oauth4webapi: () => oauth4webapi('oauth4webapi'),
  'oauth4webapi-3.8.7': () => oauth4webapi('oauth4webapi-3.8.7'),

  async 'openid-client'() {
    const oidc = await load('openid-client/build/index.js');
    const config = await oidc.discovery(new URL(issuer), 'web', undefined, oidc.ClientSecretBasic('secret'), {
      execute: [oidc.allowInsecureRequests],
    });
    const DPoP = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair());
    const { access_token: token } = await oidc.clientCredentialsGrant(config, BODY, { DPoP });
    return async (url) => {
      try {
        await oidc.fetchProtectedResource(config, token, new URL(url), 'GET', undefined, undefined, { DPoP });
      } catch (error) {
        if (!(error instanceof oidc.WWWAuthenticateChallengeError)) throw error;
      }
    };
  },

  // It signs proofs for an application, and repeats nothing.
  async 'oidc-client-ts'() {
    globalThis.window = globalThis; // it is made for browsers
    const { UserManager, DPoPState, InMemoryWebStorage, WebStorageStateStore } = await load(
      'oidc-client-ts/dist/esm/oidc-client-ts.js',
    );
    const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
    const state = new DPoPState(keys);
    const dpop = {
      store: { get: async () => state, getAllKeys: async () => ['web'], set: async () => {}, remove: async () => {} },
    };
    const store = new WebStorageStateStore({ store: new InMemoryWebStorage() });
    const redirect = { redirect_uri: 'https://web.test/callback', stateStore: store, userStore: store };
    const manager = new UserManager({ authority: issuer, client_id: 'web', dpop, ...redirect });
    const prove = (url, method, nonce, token) => manager.dpopProof(url, { access_token: token }, method, nonce);
    // The token endpoint's proof has no ath, and this function always writes one.
    return byHand((url, method, nonce, token) => prove(url, method, nonce, token ?? ''));
  },

  async dpop() {
    const { generateKeyPair, generateProof } = await load('dpop/build/index.js');
    const keys = await generateKeyPair('Ed25519');
    return byHand((url, method, nonce, token) => generateProof(keys, url, method, nonce, token));
  },

  async jose() {
    const { SignJWT, base64url, exportJWK, generateKeyPair } = await load('jose/dist/webapi/index.js');
    const { privateKey, publicKey } = await generateKeyPair('ES256');
    const jwk = await exportJWK(publicKey);
    return byHand(async (url, method, nonce, token) => {
      const claims = { htm: method, htu: url, jti: crypto.randomUUID() };
      if (nonce) claims.nonce = nonce;
      if (token) claims.ath = base64url.encode(new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(token))));
      return new SignJWT(claims).setIssuedAt().setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk }).sign(privateKey);
    });
  },
};

const ask = await clients[client]();
const statuses = [];
for (const url of urls) {
  seen = [];
  await ask(url);
  statuses.push(seen);
}
console.log(JSON.stringify(statuses));
