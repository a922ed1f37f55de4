#!/usr/bin/env bash
# Sign of AWS KMS takes a message, or with MessageType DIGEST its hash (API reference of KMS, Sign). PSS has a salt as long as the
# hash there, as RFC 7518, section 3.5, wants for JWS.
# Expected: in moto the public key verifies what was signed in both ways, and PSS signatures with a salt as long as the hash.
# Seen: moto hashes a DIGEST again, and its salt is as long as possible: code that is right with AWS fails with moto.
. "$(dirname "$0")/lib.sh"
pip_install venv moto==5.2.5 boto3==1.44.8 cryptography==50.0.2
cat > run.py <<'PY'
import hashlib

import boto3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from moto import mock_aws

MESSAGE = b"header.payload"
PSS = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=32)


def verified(check) -> str:
    try:
        check()
    except InvalidSignature:
        return "not verified"
    return "verified"


with mock_aws():
    kms = boto3.client("kms", region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="s")
    for spec, algorithm, options in (
        ("ECC_NIST_P256", "ECDSA_SHA_256", (ec.ECDSA(SHA256()),)),
        ("RSA_2048", "RSASSA_PSS_SHA_256", (PSS, SHA256())),
    ):
        key = kms.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        public = load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])
        for kind, sent in (("RAW", MESSAGE), ("DIGEST", hashlib.sha256(MESSAGE).digest())):
            signed = kms.sign(KeyId=key, Message=sent, MessageType=kind, SigningAlgorithm=algorithm)["Signature"]
            print(f"{algorithm} {kind}:", verified(lambda: public.verify(signed, MESSAGE, *options)))
PY
venv/bin/python run.py > seen.txt
compare seen.txt <<'SEEN'
ECDSA_SHA_256 RAW: verified
ECDSA_SHA_256 DIGEST: not verified
RSASSA_PSS_SHA_256 RAW: not verified
RSASSA_PSS_SHA_256 DIGEST: not verified
SEEN
