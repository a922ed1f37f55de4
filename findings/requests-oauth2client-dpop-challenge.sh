#!/usr/bin/env bash
# A resource server says what is wrong with a DPoP proof by a challenge: invalid_dpop_proof, or use_dpop_nonce with a DPoP-Nonce
# header (RFC 9449, sections 7.1 and 9).
# Expected: PyPI's requests_oauth2client hands the 401 to its caller, but for use_dpop_nonce, which it answers by itself.
# Seen: any 401 whose challenge begins with DPoP raises MissingDPoPNonce if it has no nonce: the caller gets an exception about
# nonces in place of the answer that says why. A Bearer challenge is handed over.
. "$(dirname "$0")/lib.sh"
pip_install python requests_oauth2client==1.8.0
python/bin/python > seen.txt <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import requests
from requests_oauth2client import DPoPKey, DPoPToken

CHALLENGES = {
    "/token": ('DPoP error="invalid_token"', None),
    "/proof": ('DPoP error="invalid_dpop_proof"', None),
    "/nonce": ('DPoP error="use_dpop_nonce"', "n1"),
    "/bearer": ('Bearer error="invalid_token"', None),
}
asked = []


class Resource(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        challenge, nonce = CHALLENGES[self.path]
        self.send_response(401)
        self.send_header("WWW-Authenticate", challenge)
        if nonce:
            self.send_header("DPoP-Nonce", nonce)
        self.end_headers()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Resource)
threading.Thread(target=server.serve_forever, daemon=True).start()
for path, (challenge, _) in CHALLENGES.items():
    token = DPoPToken(access_token="token", _dpop_key=DPoPKey.generate())
    asked.clear()
    try:
        outcome = requests.get(f"http://127.0.0.1:{server.server_port}{path}", auth=token).status_code
    except Exception as error:
        outcome = type(error).__name__
    print(f"{challenge}: {outcome}, requests: {len(asked)}")
PYTHON
compare seen.txt <<'SEEN'
DPoP error="invalid_token": MissingDPoPNonce, requests: 1
DPoP error="invalid_dpop_proof": MissingDPoPNonce, requests: 1
DPoP error="use_dpop_nonce": 401, requests: 2
Bearer error="invalid_token": 401, requests: 1
SEEN
