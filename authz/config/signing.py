"""The keys that sign what the sidecar issues itself, and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from authz.config.section import Access, Duration, Section, Setting, Word


class KeyKind(StrEnum):
    """Where a private key is."""

    MEMORY = "memory"
    FILE = "file"
    PKCS11 = "pkcs11"
    AWS_KMS = "aws_kms"
    GOOGLE_KMS = "google_kms"
    AZURE_KEY_VAULT = "azure_key_vault"


class SigningKey(Section):
    """One private key of the sidecar; NAME is its label in metrics and logs."""

    kind: Word[KeyKind]
    """memory: generated at start. file: PEM or a JWK. pkcs11: an HSM. The others are services of clouds."""
    algorithm: str | None = None
    """The alg of its signatures; without it ES256 (memory), or what the key is for: RS256, ES256 ..., EdDSA."""
    kid: str | None = None
    """The key id; without it the RFC 7638 thumbprint."""
    file: str | None = None
    """file: the private key, PEM or a JWK, watched."""
    key: str | None = None
    """pkcs11: label. aws_kms: ARN, id or alias. google_kms: name of the version. azure_key_vault: URL of the key."""
    key_id: str | None = None
    """pkcs11: CKA_ID of the key, in hexadecimal, if several have the label."""
    module: str | None = None
    """pkcs11: path of the library (PKCS#11 module)."""
    token: str | None = None
    """pkcs11: label of the token."""
    pin_file: str | None = None
    """pkcs11: file with the user's PIN; read at each login."""
    region: str | None = None
    """aws_kms: region, if neither an ARN nor the environment names it."""
    endpoint: str | None = None
    """aws_kms, google_kms: another endpoint of the service, as https URL or host:port."""
    timeout: Annotated[Duration, Setting(bounds=("1ms", "10s"))] = timedelta(seconds=2)
    """Bound of one signature at a device or service."""
    max_wait: Annotated[Duration, Setting(bounds=("1ms", "10s"), envoy=True)] = timedelta(seconds=1)
    """Longest time that a request waits for a signature."""
    max_concurrent: Annotated[int, Setting(bounds=("1", "256"))] = 8
    """Signatures that are under way at one time, each on a thread."""
    max_per_second: Annotated[int, Setting(bounds=("1", "10000"))] = 200
    """Signatures a second; so many may come at once."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether the key is in a device or a service, for which requests may wait."""
        return self.kind not in {KeyKind.MEMORY, KeyKind.FILE}


class Rotation(Section):
    """When keys that the sidecar generates (kind memory) are replaced, and where they are kept."""

    every: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1m", "87600h"))] = timedelta(hours=720)
    """How long a key signs."""
    ahead: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1s", "24h"))] = timedelta(minutes=15)
    """How long a key is published before it signs; longer than publish.max_age, as readers cache for so long."""
    state_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """File of the private keys, the same for all workers and replicas; without it they end with the process."""
    follow: Annotated[bool, Setting(Access.UNAFFECTED)] = False
    """Only read state_file: `authz signing rotate` writes it, for a Secret."""


class Publication(Section):
    """Where readers find the public keys; the admin port always answers /.well-known/jwks.json."""

    url: Annotated[
        str | None, Field(examples=["https://api.example.com/.well-known/jwks.json"]), Setting(Access.DOCUMENT)
    ] = None
    """URL that the sidecar itself answers through Envoy, at this host and path; without it none."""
    discovery: Annotated[bool, Setting(Access.DOCUMENT)] = False
    """Answer /.well-known/openid-configuration below identity.token.issuer too; it names the url."""
    max_age: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1s", "24h"))] = timedelta(minutes=5)
    """How long readers may cache the keys."""


class Signing(Section):
    """The keys that sign what the sidecar issues itself."""

    keys: Annotated[
        Mapping[str, SigningKey],
        Field(examples=[{"main": {"kind": "memory"}}]),
        Setting(Access.UNAFFECTED, envoy=True),
    ] = {}
    """Private keys by name."""
    rotation: Rotation = Rotation()
    """When keys that the sidecar generates (kind memory) are replaced, and where they are kept."""
    publish: Publication = Publication()
    """Where readers find the public keys; the admin port always answers /.well-known/jwks.json."""

    @property
    def generates(self) -> bool:
        """Whether the sidecar generates its keys: the default, and of the kind memory."""
        return all(key.kind is KeyKind.MEMORY for key in self.keys.values())

    @property
    def generated_algorithm(self) -> str:
        """The algorithm of generated keys."""
        return next((key.algorithm for key in self.keys.values() if key.algorithm), "ES256")
