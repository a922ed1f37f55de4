"""Opens remote keys: those in a device or a service, as the configuration names them."""

from __future__ import annotations

from authz.config.signing import KeyKind, SigningKey
from authz.signing.aws_kms import AwsKey, open_aws_key
from authz.signing.azure_key_vault import AzureKey, open_azure_key
from authz.signing.google_kms import GoogleKey, open_google_key
from authz.signing.hsm import HsmKey, open_hsm_key
from authz.signing.port import Failure, Signer, SigningUnavailable


def open_remote_key(section: SigningKey) -> Signer:
    """Return the signer of a key in a device or a service. May block. Raises SigningUnavailable."""
    timeout = section.timeout.total_seconds()
    match section.kind:
        case KeyKind.PKCS11:
            return open_hsm_key(
                HsmKey(
                    module=section.module or "",
                    token=section.token or "",
                    pin_file=section.pin_file or "",
                    key=section.key or "",
                    key_id=None if section.key_id is None else bytes.fromhex(section.key_id),
                    algorithm=section.algorithm,
                    kid=section.kid,
                    timeout=timeout,
                )
            )
        case KeyKind.AWS_KMS:
            return open_aws_key(
                AwsKey(
                    key=section.key or "",
                    region=section.region,
                    endpoint=section.endpoint,
                    algorithm=section.algorithm,
                    kid=section.kid,
                    timeout=timeout,
                    max_connections=section.max_concurrent,
                )
            )
        case KeyKind.GOOGLE_KMS:
            return open_google_key(
                GoogleKey(
                    key=section.key or "",
                    endpoint=section.endpoint,
                    algorithm=section.algorithm,
                    kid=section.kid,
                    timeout=timeout,
                )
            )
        case KeyKind.AZURE_KEY_VAULT:
            return open_azure_key(
                AzureKey(key=section.key or "", algorithm=section.algorithm, kid=section.kid, timeout=timeout)
            )
        case KeyKind.MEMORY | KeyKind.FILE:
            raise SigningUnavailable("the key is in this process", Failure.MISCONFIGURED)
