// A reader of a key set on Node: verifies each token that it is sent, a line each, with jose, and says "ok" or why not.
// node readers.mjs <node_modules> <url of the key set> <issuer> <audience> <cache in ms>
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [modules, url, issuer, audience, cacheMaxAge] = process.argv.slice(2);
const { createRemoteJWKSet, jwtVerify } = await import(pathToFileURL(`${modules}/jose/dist/webapi/index.js`));
// It fetches again when its copy is too old, and never because of a key that it does not know.
const keys = createRemoteJWKSet(new URL(url), { cacheMaxAge: Number(cacheMaxAge), cooldownDuration: 3_600_000 });

for await (const token of createInterface({ input: process.stdin })) {
  try {
    await jwtVerify(token, keys, { issuer, audience });
    console.log('ok');
  } catch (error) {
    console.log(`${error.code} ${error.message}`);
  }
}
