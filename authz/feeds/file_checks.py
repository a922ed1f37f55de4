"""Check the files that are configured for issuers and PDPs, by reading them as a refresh does.

Rules of this file:
1. A missing file is a warning: secrets are often not mounted where a configuration is written and checked.
2. A file that exists but cannot be used is an error, with the message of the refresh that would fail.
3. Neither prevents a start or a reload: a secret may be mounted later, and other issuers are not affected. Until the
   file is fixed, every refresh of this issuer fails and is logged.
4. A relative path is relative to the working directory; messages contain the absolute path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from authz.config.diagnostics.unused_keys import describe_unused
from authz.config.introspection import Client
from authz.config.issuer import Fetch
from authz.config.issuer import Issuer as IssuerSection
from authz.config.model import Config
from authz.config.pdp import Pdp
from authz.config.problems import KeyPath, Problem, quote
from authz.config.shared_state import SharedState
from authz.config.signing import SigningKey
from authz.core.keys import KeySet
from authz.feeds.build_feed import make_reader
from authz.feeds.failure import RefreshError
from authz.feeds.http.client_auth import BearerTokenFile, ClientSecretBasicFile, PrivateKeyJwt
from authz.feeds.http.credentials import read_basic_credentials, read_password, read_proxy_credentials, read_token
from authz.feeds.http.tls import ClientCertificate, TlsTrust
from authz.feeds.revocation_lists import ListSource, as_fetch, make_list_source
from authz.feeds.sources import FileSource
from authz.files.stamp import FileStamp
from authz.signing.port import SigningUnavailable
from authz.signing.sealing import Sealer
from authz.signing.sources import read_file
from authz.telemetry.keys import Refresh

_MAX_SHOWN: Final = 8  # entries of a list that cannot be read


@dataclass(frozen=True, slots=True)
class _File:
    """A *file* that is configured at *path*; *read* raises RefreshError if it cannot be used."""

    path: KeyPath
    file: str
    read: Callable[[], object]

    def is_missing(self) -> bool:
        try:
            Path(self.file).stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # reading it will report the error
        return False

    def find_error(self) -> str | None:
        try:
            if not FileStamp.of(self.file).is_regular:
                return f"{self.file}: is not a file"  # reading a pipe could block
            self.read()
        except RefreshError as error:
            return str(error).removeprefix("fetch.").removeprefix(f"{self.path[-1]} ")
        except OSError as error:
            return f"{self.file}: {error.strerror}"
        return None


def check_files(config: Config) -> Iterator[Problem]:
    """Report files that exist but cannot be used."""
    for file in _files(config):
        if not file.is_missing() and (error := file.find_error()) is not None:
            yield Problem(path=file.path, message=error)


def warn_of_files(config: Config) -> Iterator[Problem]:
    """Report missing files, and keys in key files that no token can use."""
    for file in _files(config):
        if file.is_missing():
            hint = f"without it, {next(effect for key, effect in _WITHOUT.items() if key in file.path)}"
            yield Problem(path=file.path, message=f"{file.file} was not found, and not checked", hint=hint)
    for name, issuer in config.issuers.items():
        if issuer.jwks_file is not None:
            for message in _find_unused_keys(issuer.jwks_file, issuer):
                yield Problem(path=("issuers", name, "jwks_file"), message=message)


_WITHOUT: Final = {
    "introspection": "its tokens cannot be introspected",
    "exchange": "no token is exchanged",
    "rotation": "no key can be read or written",
    "signing": "nothing is signed by this key",
    "issuers": "the keys of this issuer cannot be refreshed",
    "pdps": "this PDP cannot be asked",
    "revocation": "its revocations are not known",
    "shared_state": "there is no shared state",
}


def _files(config: Config) -> Iterator[_File]:
    yield from _files_of_signing(config)
    for name, issuer in config.issuers.items():
        path = ("issuers", name)
        if issuer.jwks_file is not None:
            file = _absolute(issuer.jwks_file)
            yield _File((*path, "jwks_file"), file, _source(file, issuer).load)
        elif issuer.jwks is None:
            yield from _files_of(issuer.fetch, (*path, "fetch"))
        if issuer.introspection is not None:
            yield from _files_of_client(issuer.introspection.client, (*path, "introspection", "client"))
    for name, pdp in config.pdps.items():
        yield from _files_of(pdp, ("pdps", name))
    if config.shared_state is not None:
        yield from _files_of(config.shared_state, ("shared_state",))
    yield from _files_of_revocation(config)


def _files_of_signing(config: Config) -> Iterator[_File]:
    if config.identity.exchange is not None:
        yield from _files_of_client(config.identity.exchange.client, ("identity", "token", "exchange", "client"))
    if config.identity.minted is None:
        return
    if (secret := config.signing.rotation.shared_secret_file) is not None:
        path = ("signing", "rotation", "shared_secret_file")
        yield _File(path, _absolute(secret), partial(_read_sealing_secret, _absolute(secret)))
    for name, key in config.signing.keys.items():
        for key_name, file in (("file", key.file), ("module", key.module), ("pin_file", key.pin_file)):
            if file is not None:
                read = partial(_read_signing_file, key) if key_name == "file" else _read_nothing
                yield _File(("signing", "keys", name, key_name), _absolute(file), read)


def _files_of_revocation(config: Config) -> Iterator[_File]:
    for name, section in config.revocation.lists.items():
        path = ("revocation", "lists", name)
        if section.file is not None:
            source = make_list_source(section, max_entries=config.revocation.max_entries)
            yield _File((*path, "file"), _absolute(section.file), partial(_read_list, source))
        elif section.url is not None:
            yield from _files_of(as_fetch(section), path)


def _read_list(source: ListSource) -> None:
    """Read a list as a refresh does; here an entry that cannot be read is an error. Raises RefreshError."""
    entries = source.load(on_demand=False).value
    if entries is not None and entries.errors:
        shown = "; ".join(f"entry {index}: {why}" for index, why in entries.errors[:_MAX_SHOWN])
        raise RefreshError(Refresh.LIST_REJECTED, f"{source.location}: {shown}")


def _read_signing_file(key: SigningKey) -> None:
    """Read a private key. Raises RefreshError, without a part of it."""
    try:
        read_file(key)
    except SigningUnavailable as error:
        raise RefreshError(Refresh.MISCONFIGURED, str(error)) from None


def _read_sealing_secret(file: str) -> None:
    """Read the secret of signing keys in the shared state. Raises RefreshError, OSError."""
    try:
        Sealer(Path(file)).seal(b"", "")
    except ValueError as error:
        raise RefreshError(Refresh.MISCONFIGURED, str(error)) from None


def _read_nothing() -> None:
    """Do nothing: a library and a PIN are read when the token is opened; a wrong PIN may lock it."""


def _files_of_client(client: Client, path: KeyPath) -> Iterator[_File]:
    read: dict[str, Callable[[str], object]] = {
        "secret_file": lambda file: ClientSecretBasicFile("", file).credentials(),
        "private_key_file": lambda file: PrivateKeyJwt("", file, "", client.key_id, client.algorithm).credentials(),
        "bearer_token_file": lambda file: BearerTokenFile(file).credentials(),
    }
    for key, reader in read.items():
        if (configured_file := getattr(client, key)) is not None:
            file = _absolute(configured_file)
            yield _File((*path, key), file, partial(reader, file))


def _files_of(fetch: Fetch | Pdp | SharedState, path: KeyPath) -> Iterator[_File]:
    read: dict[str, Callable[[str], object]] = {
        "ca_file": lambda file: TlsTrust(file).verifier(),
        "client_cert_file": lambda file: _read_client(file, fetch.client_key_file),
        "client_key_file": lambda _: None,  # it is read together with the certificate
        "bearer_token_file": read_token,
        "proxy_credentials_file": read_proxy_credentials,
        "basic_credentials_file": read_basic_credentials,
        "password_file": read_password,
    }
    for key, reader in read.items():
        if (configured_file := getattr(fetch, key, None)) is not None:
            file = _absolute(configured_file)
            yield _File((*path, key), file, partial(reader, file))


def _read_client(cert_file: str, key_file: str | None) -> None:
    """Read a client certificate if its key file exists too. Raises RefreshError."""
    if key_file is not None and (stamp := FileStamp.of_any(key_file)) is not None and stamp.is_regular:
        TlsTrust(None, ClientCertificate(cert_file, _absolute(key_file))).verifier(show_certificate=True)


def _absolute(file: str) -> str:
    return str(Path(file).absolute())


def _source(file: str, issuer: IssuerSection) -> FileSource[KeySet]:
    return FileSource(Path(file), make_reader(issuer))


def _find_unused_keys(file: str, issuer: IssuerSection) -> Iterator[str]:
    try:
        keys = _source(file, issuer).load().value
    except RefreshError:
        return  # reported as an error, or missing
    if keys is None:
        return
    yield from describe_unused(keys, issuer)
    for blocked in keys.unmatched_blocks:
        yield f"{quote(blocked)} in blocked_keys is not the kid or thumbprint of a key in it"
