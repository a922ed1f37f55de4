#!/usr/bin/env bash
# A token status list packs 1, 2, 4 or 8 bits per token; its length in tokens is written nowhere, only its bytes.
# Expected: after the round trip through the compressed form, an index that the list never had is refused, as before it.
# Seen: a list of 12 one-bit statuses comes back with 16. The four that fill the last byte read 0, which means VALID, in
# @sd-jwt/jwt-status-list, and in token-status-list for Python, which reads what the first has written. Even where the 12
# are all revoked. Whoever issues must take a multiple of 8, or treat what lies behind the last status as unknown.
. "$(dirname "$0")/lib.sh"
npm_install @sd-jwt/jwt-status-list@0.19.0
pip_install python token-status-list==0.1.0a2.dev1
cat > run.mjs <<'JS'
import { writeFileSync } from 'node:fs';
import { StatusList } from '@sd-jwt/jwt-status-list';

const status = (list, index) => { try { return list.getStatus(index); } catch (error) { return error.message; } };
const written = new StatusList(Array(12).fill(1), 1);
const text = written.compressStatusList();
const read = StatusList.decompressStatusList(text, 1);
writeFileSync('list.txt', text);
for (const index of [11, 12, 15, 16]) {
  console.log(`index ${index}: written ${status(written, index)} | read ${status(read, index)}`);
}
JS
node run.mjs > seen.txt
python/bin/python >> seen.txt <<'PYTHON'
import base64
import zlib
from pathlib import Path

from token_status_list import BitArray

text = Path("list.txt").read_text()
packed = zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
statuses = BitArray(1, packed)
for index in (11, 12, 15, 16):
    try:
        print(f"index {index}: in Python {int(statuses[index])}")
    except IndexError:
        print(f"index {index}: in Python IndexError")
PYTHON
compare seen.txt <<'SEEN'
index 11: written 1 | read 1
index 12: written Index out of bounds | read 0
index 15: written Index out of bounds | read 0
index 16: written Index out of bounds | read Index out of bounds
index 11: in Python 1
index 12: in Python 0
index 15: in Python 0
index 16: in Python IndexError
SEEN
