// Runs npm's oidc-provider by orders on standard input: one JSON array a line, one line of JSON for each.
// node oidc_provider.mjs <folder of the package>
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

console.info = console.error; // its notices must not stand between the answers
console.warn = console.error;
const { Provider } = await import(pathToFileURL(`${process.argv[2]}/lib/index.js`));

const CLIENT = {
  client_id: 'web',
  client_secret: 'secret',
  grant_types: ['client_credentials', 'refresh_token', 'authorization_code'],
  response_types: ['code'],
  redirect_uris: ['https://web.test/callback'],
  scope: 'openid offline_access orders:read orders:write',
};
// Asks about tokens; its secret has characters that must be form-encoded in Basic credentials.
const ASKER = {
  client_id: 'rs', client_secret: 'a+b%c', grant_types: [], response_types: [], redirect_uris: [],
};
const SECONDS = 3600;
let server;
let provider;

const bind = (port) => new Promise((resolve, reject) => {
  server = createServer((request, response) => provider.callback()(request, response));
  server.once('error', reject).listen(port, '127.0.0.1', () => resolve(port));
});

// A port below those that the system gives to others, so that it is still free after an outage.
async function bindAny() {
  for (;;) {
    try {
      return await bind(10000 + Math.floor(Math.random() * 20000));
    } catch (error) {
      if (error.code !== 'EADDRINUSE') throw error;
    }
  }
}

const orders = {
  // Serve these private JWKs and sign access tokens by `algorithm`; port 0 is any that is free. `sub: false`: none for machines.
  // Logout tokens of the client go to the URL `logout`, with a sid if `session` says so.
  async start({ keys, algorithm = 'RS256', port = 0, sub = true, logout, session = true }) {
    const issuer = `http://127.0.0.1:${port ? await bind(port) : await bindAny()}`;
    const sign = { alg: algorithm };
    const receiver = { backchannel_logout_uri: logout, backchannel_logout_session_required: session };
    provider = new Provider(issuer, {
      jwks: { keys },
      clients: [CLIENT, ASKER].map((client) => ({
        ...client, ...(logout && client === CLIENT ? receiver : {}), id_token_signed_response_alg: algorithm, introspection_signed_response_alg: algorithm,
      })),
      scopes: ['openid', 'offline_access', 'orders:read', 'orders:write'],
      features: {
        backchannelLogout: { enabled: Boolean(logout) },
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        introspection: { enabled: true, allowedPolicy: () => true },
        jwtIntrospection: { enabled: true },
        revocation: { enabled: true },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => undefined,
          useGrantedResource: () => true,
          getResourceServerInfo: (_, resource) => ({
            scope: 'orders:read orders:write', audience: resource, accessTokenTTL: SECONDS, accessTokenFormat: resource.endsWith('/opaque') ? 'opaque' : 'jwt', jwt: { sign },
          }),
        },
      },
      fetch: (url, { dispatcher, ...options }) => fetch(url, options), // its dispatcher does not connect to loopback
      formats: {
        customizers: {
          jwt(_, token, jwt) {
            if (!sub && token.kind === 'ClientCredentials') delete jwt.payload.sub;
          },
        },
      },
      findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
      ttl: { IdToken: SECONDS, RefreshToken: SECONDS, Grant: SECONDS },
    });
    return issuer;
  },

  // What consent would have made: a refresh token of a user for a resource.
  async consent({ user, resource }) {
    const client = await provider.Client.find(CLIENT.client_id);
    const grant = new provider.Grant({ accountId: user, clientId: client.clientId });
    grant.addOIDCScope('openid offline_access');
    grant.addResourceScope(resource, 'orders:read orders:write');
    return new provider.RefreshToken({
      accountId: user,
      authTime: Math.floor(Date.now() / 1000),
      client,
      grantId: await grant.save(),
      gty: 'authorization_code',
      resource,
      scope: 'openid offline_access orders:read',
    }).save();
  },

  // Send a logout token about a user's session; return the error if it is not accepted, else an empty text.
  async logout({ user, session }) {
    const client = await provider.Client.find(CLIENT.client_id);
    return client.backchannelLogout(user, session).then(() => '', (error) => error.message);
  },

  async stop() {
    server.closeAllConnections();
    await new Promise((resolve) => { server.close(resolve); });
    return true;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, order] = JSON.parse(line);
  console.log(JSON.stringify(await orders[name](order)));
}
process.exit(0);
