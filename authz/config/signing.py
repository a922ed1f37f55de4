"""The keys that sign what the sidecar issues itself, and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from authz.config.declaring import Field
from authz.config.outbound import MaxConcurrent, MaxPerSecondAtIssuer, MaxWait, Timeout
from authz.config.section import Access, Choice, Duration, Section, Setting


class KeyKind(StrEnum):
    """Where a private key is."""

    MEMORY = "memory"
    FILE = "file"
    PKCS11 = "pkcs11"
    AWS_KMS = "aws_kms"
    GOOGLE_KMS = "google_kms"
    AZURE_KEY_VAULT = "azure_key_vault"


class SigningKey(Section):
    """A private key."""

    kind: Choice[KeyKind]
    """memory: generated. file: PEM or JWK. pkcs11: HSM."""
    algorithm: str | None = None
    """alg; default: ES256 (memory), or that of the key."""
    kid: str | None = None
    """Default: the RFC 7638 thumbprint."""
    file: str | None = None
    """The private key, watched."""
    key: str | None = None
    """pkcs11: label. aws_kms: ARN, id or alias. google_kms: version name. azure_key_vault: URL."""
    key_id: str | None = None
    """pkcs11: CKA_ID (hexadecimal), if several have the label."""
    module: str | None = None
    """pkcs11: path of the library."""
    token: str | None = None
    """pkcs11: label of the token."""
    pin_file: str | None = None
    """pkcs11: PIN."""
    region: str | None = None
    """aws_kms: region, if the ARN does not name it."""
    endpoint: str | None = None
    """aws_kms, google_kms: another endpoint."""
    timeout: Timeout = timedelta(seconds=2)
    max_wait: MaxWait = timedelta(seconds=1)
    max_concurrent: MaxConcurrent = 8
    max_per_second: MaxPerSecondAtIssuer = 200

    @property
    def is_remote(self) -> bool:
        """Whether the key is in a device or a service, for which requests may wait."""
        return self.kind not in {KeyKind.MEMORY, KeyKind.FILE}


class Rotation(Section):
    """Generated keys."""

    every: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1m", "87600h"))] = timedelta(hours=720)
    """How long a generated key signs."""
    ahead: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1s", "24h"))] = timedelta(minutes=15)
    """How long it is published before; above publish.max_age."""
    state_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Keeps keys on a shared volume."""
    follow: Annotated[bool, Setting(Access.UNAFFECTED)] = False
    """Only read state_file, from `authz signing rotate`."""
    shared_secret_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Keeps keys in shared_state, encrypted by this (32 octets or more)."""

    @property
    def storage(self) -> tuple[str | None, bool, str | None]:
        """The settings that say where the keys are stored."""
        return self.state_file, self.follow, self.shared_secret_file

    @property
    def is_kept(self) -> bool:
        """Whether the keys outlive the process."""
        return self.state_file is not None or self.shared_secret_file is not None


class Publication(Section):
    """Where readers find the public keys, beside /.well-known/jwks.json on the admin port."""

    url: Annotated[
        str | None, Field(examples=["https://api.example.com/.well-known/jwks.json"]), Setting(Access.DOCUMENT)
    ] = None
    """URL of the public keys through Envoy."""
    discovery: Annotated[bool, Setting(Access.DOCUMENT)] = False
    """Answer /.well-known/openid-configuration too."""
    max_age: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1s", "24h"))] = timedelta(minutes=5)
    """How long readers may cache keys."""


class Signing(Section):
    """The sidecar's own keys."""

    keys: Annotated[
        Mapping[str, SigningKey],
        Field(examples=[{"main": {"kind": "memory"}}]),
        Setting(Access.UNAFFECTED, envoy=True),
    ] = {}
    """Private keys."""
    rotation: Rotation = Rotation()
    """Generated keys."""
    publish: Publication = Publication()
    """Where readers find the public keys, beside /.well-known/jwks.json on the admin port."""

    @property
    def generates(self) -> bool:
        """Whether the sidecar generates its keys: the default, and of the kind memory."""
        return all(key.kind is KeyKind.MEMORY for key in self.keys.values())

    @property
    def generated_algorithm(self) -> str:
        """The algorithm of generated keys."""
        return next((key.algorithm for key in self.keys.values() if key.algorithm), "ES256")
