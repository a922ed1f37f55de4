"""The files that issuers name, tried by the code that will read them.

Rules of this file:
1. A file that is not there is a warning: where a configuration is written and checked, secrets are seldom mounted.
2. One that is there and cannot serve is an error, with the words of the refresh that would fail.
3. Neither keeps a sidecar from starting or from reloading: a secret may be mounted later, and one issuer's trouble is
   none of another's. Its refreshes fail, each with a line in the log, until the file is mended.
4. A relative name is looked for where the process runs; messages name the place that was looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from authz.config.diagnostics.unused_keys import why_unused
from authz.config.issuer import Fetch
from authz.config.issuer import Issuer as IssuerSection
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, quote
from authz.feeds.assembly import make_reader
from authz.feeds.failure import RefreshError
from authz.feeds.http.credentials import read_proxy_credentials, read_token
from authz.feeds.http.tls import ClientCertificate, TlsTrust
from authz.feeds.sources import FileSource
from authz.files.stamp import FileStamp


@dataclass(frozen=True, slots=True)
class _File:
    """A *file* that the value at *path* names; *read* raises RefreshError where it cannot serve."""

    path: KeyPath
    file: str
    read: Callable[[], object]

    def is_missing(self) -> bool:
        try:
            Path(self.file).stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # reading it will tell
        return False

    def find_fault(self) -> str | None:
        try:
            if not FileStamp.of(self.file).is_regular:
                return f"{self.file}: is not a file"  # a pipe would be waited for
            self.read()
        except RefreshError as error:
            return str(error).removeprefix(f"fetch.{self.path[-1]} ")
        except OSError as error:
            return f"{self.file}: {error.strerror}"
        return None


def check_files(config: Config) -> Iterator[Problem]:
    """Report files that are there and cannot serve."""
    for named in _files(config):
        if not named.is_missing() and (fault := named.find_fault()) is not None:
            yield Problem(path=named.path, message=fault)


def warn_of_files(config: Config) -> Iterator[Problem]:
    """Report files that are not there, and keys in a key file that no token can mean."""
    for named in _files(config):
        if named.is_missing():
            hint = "until it is, the keys of this issuer cannot be refreshed"
            yield Problem(path=named.path, message=f"{named.file} is not here, and was not checked", hint=hint)
    for name, issuer in config.issuers.items():
        if issuer.jwks_file is not None:
            for message in _doubt_keys(issuer.jwks_file, issuer):
                yield Problem(path=("issuers", name, "jwks_file"), message=message)


def _files(config: Config) -> Iterator[_File]:
    for name, issuer in config.issuers.items():
        path = ("issuers", name)
        if issuer.jwks_file is not None:
            file = _place(issuer.jwks_file)
            yield _File((*path, "jwks_file"), file, _source(file, issuer).load)
        elif issuer.jwks is None:
            yield from _files_of(issuer.fetch, (*path, "fetch"))


def _files_of(fetch: Fetch, path: KeyPath) -> Iterator[_File]:
    read: dict[str, Callable[[str], object]] = {
        "ca_file": lambda file: TlsTrust(file).verifier(),
        "client_cert_file": lambda file: _read_client(file, fetch.client_key_file),
        "client_key_file": lambda _: None,  # it is read with its certificate
        "bearer_token_file": read_token,
        "proxy_credentials_file": read_proxy_credentials,
    }
    for key, reader in read.items():
        if (named := getattr(fetch, key)) is not None:
            file = _place(named)
            yield _File((*path, key), file, partial(reader, file))


def _read_client(cert_file: str, key_file: str | None) -> None:
    """Read a client certificate, if its key is there too. Raises RefreshError."""
    if key_file is not None and (stamp := FileStamp.of_any(key_file)) is not None and stamp.is_regular:
        TlsTrust(None, ClientCertificate(cert_file, _place(key_file))).verifier(show_certificate=True)


def _place(file: str) -> str:
    return str(Path(file).absolute())


def _source(file: str, issuer: IssuerSection) -> FileSource:
    return FileSource(Path(file), make_reader(issuer))


def _doubt_keys(file: str, issuer: IssuerSection) -> Iterator[str]:
    try:
        keys = _source(file, issuer).load().value
    except RefreshError:
        return  # an error, or missing
    if keys is None:
        return
    algorithms, configured = frozenset(issuer.algorithms), issuer.algorithms_configured
    idle = [(key.kid, why) for key in keys.keys if (why := why_unused(key, algorithms, configured=configured))]
    for kid, why in (*keys.rejected_signing_keys, *idle):
        yield f"the key {'without a kid' if kid is None else quote(kid)} is not used: {why}"
    for blocked in keys.unmatched_blocks:
        yield f"{quote(blocked)} in blocked_keys is no kid or thumbprint of a key in it"
