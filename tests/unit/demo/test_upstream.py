"""The echo upstream, over a real socket."""

from __future__ import annotations

from authz.demo.client import send
from authz.demo.upstream import echo_server


def test_the_upstream_answers_with_what_it_got() -> None:
    """Every header line is shown, repeated and oddly spelled ones too, with the method and the whole target."""
    headers = [("Host", "h"), ("X-Auth-Subject", "a"), ("x-auth-subject", "b"), ("X_Auth_Subject", "c")]
    with echo_server() as upstream:
        seen = send(f"{upstream.url}/orders?x=1", method="DELETE", headers=headers).json()

    assert seen == {
        "method": "DELETE",
        "target": "/orders?x=1",
        "headers": [["host", "h"], ["x-auth-subject", "a"], ["x-auth-subject", "b"], ["x_auth_subject", "c"]],
    }
