"""Ask a service with credentials that no server knows: one that answers all the same does not look at them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from authz.facts.source import SourceError
from authz.feeds.http.client_auth import ClientAuth, Credentials
from authz.feeds.json_service import Service


@dataclass(frozen=True, slots=True)
class _Wrong:
    """Credentials that no server knows, of the kind of ours."""

    scheme: str
    is_nonblocking: ClassVar[bool] = True

    def credentials(self) -> Credentials:
        """Return the Authorization header."""
        return Credentials({"authorization": f"{self.scheme} d3Jvbmc6b24tcHVycG9zZQ=="})


def try_wrong_credentials(section: Service, ask: Callable[[ClientAuth], object]) -> str:
    """Ask with wrong credentials, by *ask*, which raises SourceError; return what that proves in a sentence."""
    if section.bearer_token_file is None and section.basic_credentials_file is None:
        return "it answers without credentials in a header"
    try:
        ask(_Wrong("Bearer" if section.bearer_token_file is not None else "Basic"))
    except SourceError as error:
        return f"wrong credentials are refused ({error.result}), so ours are right"
    return "wrong credentials are answered too: it does not look at them, and ours are not proved right"
