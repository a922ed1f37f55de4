// Drives npm's oauth2-mock-server from standard input: one command a line, one line of JSON for each.
// node oauth2_mock.mjs <path of the package's index.mjs>
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const { OAuth2Server } = await import(pathToFileURL(process.argv[2]));
let server;
let port;

const commands = {
  async start(kid) {
    server = new OAuth2Server();
    await server.issuer.keys.generate('RS256', { kid });
    await server.start(port, '127.0.0.1');
    port = server.address().port;
    return server.issuer.url;
  },
  async rotate(kid) {
    return (await server.issuer.keys.generate('RS256', { kid })).kid;
  },
  async token(kid) {
    return server.issuer.buildToken({
      kid,
      scopesOrTransform: (header, payload) => Object.assign(payload, { sub: 'alice', aud: 'api' }),
    });
  },
  async stop() {
    await server.stop();
    return true;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, argument] = line.split(' ');
  console.log(JSON.stringify(await commands[name](argument)));
}
process.exit(0);
