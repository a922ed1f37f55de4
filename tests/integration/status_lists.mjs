// Writes status lists by @sd-jwt/jwt-status-list: node status_lists.mjs <node_modules> < [[bits, [status, ...]], ...]
import { text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';

const [modules] = process.argv.slice(2);
const { StatusList, createHeaderAndPayload } = await import(
  pathToFileURL(`${modules}/@sd-jwt/jwt-status-list/dist/index.mjs`)
);
const { kid, alg, claims, lists } = JSON.parse(await text(process.stdin));
const written = lists.map(([bits, statuses]) =>
  createHeaderAndPayload(new StatusList(statuses, bits), { ...claims }, { alg, kid }));
process.stdout.write(JSON.stringify(written));
