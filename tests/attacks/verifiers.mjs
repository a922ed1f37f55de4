// Two verifiers of requests with access tokens, at one instant: prints what each says of every request.
// node verifiers.mjs <node_modules> < {"now": seconds, "issuer": ..., "audience": ..., "jwks": {...}, "requests": [...]}
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';

const [modules] = process.argv.slice(2);
const { now, issuer, audience, jwks, requests } = JSON.parse(await text(process.stdin));

// Neither has a parameter for the time.
const { Date: Clock } = globalThis;
globalThis.Date = class extends Clock {
  constructor(...given) { super(...(given.length ? given : [now * 1000])); }
  static now() { return now * 1000; }
};

const oauth = await import(pathToFileURL(`${modules}/oauth4webapi/build/index.js`));
const { auth } = createRequire(import.meta.url)(`${modules}/express-oauth2-jwt-bearer`);

const server = createServer((_, answer) => answer.setHeader('content-type', 'application/json').end(JSON.stringify(jwks)));
await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
const jwksUri = `http://127.0.0.1:${server.address().port}/keys`;

const trusted = { issuer, jwks_uri: jwksUri };
const careful = { [oauth.allowInsecureRequests]: true };  // its list of algorithms is that of proofs too
const middleware = auth({ issuer, jwksUri, audience, clockTolerance: 0, cooldownDuration: 0 });

const verifiers = {
  async oauth4webapi({ method, url, headers }) {
    await oauth.validateJwtAccessToken(trusted, new Request(url, { method, headers }), audience, careful);
  },

  // As Express calls it, behind a proxy that is trusted to say https.
  async express({ method, url, headers }) {
    const { host } = new URL(url);
    const path = url.slice(`https://${host}`.length);
    const request = {
      method, headers: { host, ...headers }, protocol: 'https', originalUrl: path, url: path, query: {}, is: () => false,
      get: (name) => ({ host, ...headers })[name.toLowerCase()],
    };
    const error = await new Promise((next) => { middleware(request, {}, next); });
    if (error) throw error;
  },
};

const verdicts = {};
for (const [name, verify] of Object.entries(verifiers)) {
  verdicts[name] = {};
  for (const request of requests) {
    try {
      await verify(request);
      verdicts[name][request.name] = '';
    } catch (error) {
      verdicts[name][request.name] = `${error.code ?? error.name}: ${error.message}`;
    }
  }
}
process.stdout.write(JSON.stringify(verdicts));
server.close();
