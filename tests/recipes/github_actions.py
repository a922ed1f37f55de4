"""GitHub Actions, whose tokens any workflow gets."""

from __future__ import annotations

from typing import Final

from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T
from tests.recipes.recipe import Recipe, Token, discovery, fails, jwk, passes

_ISSUER: Final = "https://token.actions.githubusercontent.com"
_JWKS: Final = f"{_ISSUER}/.well-known/jwks"
_DEPLOY: Final = "POST https://deploy.example.com/deploy/orders"
_PREVIEW: Final = "POST https://deploy.example.com/preview/orders"
_SUB: Final = "repo:octo-org@123456/octo-repo@456789:environment:production"

_JOB: Final = Token(
    kid="github-1",
    header={"typ": "JWT", "x5t": "github-1"},
    claims={
        "jti": "example-id",
        "sub": _SUB,
        "aud": "https://deploy.example.com",
        "ref": "refs/heads/main",
        "sha": "example-sha",
        "repository": "octo-org/octo-repo",
        "repository_owner": "octo-org",
        "repository_owner_id": "123456",
        "repository_id": "456789",
        "repository_visibility": "private",
        "environment": "production",
        "run_id": "1234567890",
        "run_number": "10",
        "run_attempt": "2",
        "runner_environment": "github-hosted",
        "actor": "octocat",
        "actor_id": "12",
        "workflow": "example-workflow",
        "workflow_ref": "octo-org/octo-repo/.github/workflows/main.yml@refs/heads/main",
        "head_ref": "",
        "base_ref": "",
        "event_name": "push",
        "ref_type": "branch",
        "job_workflow_ref": "octo-org/workflows/.github/workflows/deploy.yml@refs/heads/main",
        "iss": _ISSUER,
        "nbf": T - 660,
        "exp": T + 240,
        "iat": T - 60,
    },
)
_PULL_REQUEST: Final = _JOB.but(
    sub="repo:octo-org@123456/octo-repo@456789:pull_request",
    ref="refs/pull/7/merge",
    event_name="pull_request",
    head_ref="patch-1",
    base_ref="main",
    environment=ABSENT,
)
_WHO: Final = {"repository": "octo-org/octo-repo", "run": "1234567890", "actor": "octocat"}

RECIPE: Final = Recipe(
    name="github-actions",
    serves=lambda: {**discovery(_ISSUER, _JWKS), _JWKS: {"keys": [jwk("github-1"), jwk("github-2")]}},
    cases=(
        passes("a push to the main branch", _DEPLOY, _JOB, subject=_SUB, **_WHO),
        passes(
            "the same with a sub of names",
            _DEPLOY,
            _JOB.but(sub="repo:octo-org/octo-repo:environment:production"),
            subject="repo:octo-org/octo-repo:environment:production",
            **_WHO,
        ),
        passes(
            "a pull request, where it may",
            _PREVIEW,
            _PULL_REQUEST,
            subject="repo:octo-org@123456/octo-repo@456789:pull_request",
            **_WHO,
        ),
        passes(
            "a pull request of an old repository",
            _PREVIEW,
            _PULL_REQUEST.but(sub="repo:octo-org/octo-repo:pull_request"),
            subject="repo:octo-org/octo-repo:pull_request",
            **_WHO,
        ),
        fails("a pull request", _DEPLOY, _PULL_REQUEST, Reason.POLICY_DENIED),
        fails(
            "a pull request that names the environment",
            _DEPLOY,
            _PULL_REQUEST.but(sub=_SUB, environment="production"),
            Reason.POLICY_DENIED,
        ),
        fails(
            "a pull_request_target, which runs on the main branch",
            _DEPLOY,
            _JOB.but(event_name="pull_request_target"),
            Reason.POLICY_DENIED,
        ),
        fails(
            "the repository, given to another owner",
            _DEPLOY,
            _JOB.but(repository_owner_id="777777"),
            Reason.POLICY_DENIED,
        ),
        fails("another repository", _DEPLOY, _JOB.but(repository_id="999999"), Reason.POLICY_DENIED),
        fails(
            "a namesake, after owner and repository were deleted",
            _DEPLOY,
            _JOB.but(repository_owner_id="777777", repository_id="999999"),
            Reason.POLICY_DENIED,
        ),
        fails("an id that is a number", _DEPLOY, _JOB.but(repository_id=456789), Reason.POLICY_DENIED),
        fails("another branch", _DEPLOY, _JOB.but(ref="refs/heads/main2"), Reason.POLICY_DENIED),
        fails("a tag by the name of the branch", _DEPLOY, _JOB.but(ref="refs/tags/main"), Reason.POLICY_DENIED),
        fails("a job without an environment", _DEPLOY, _JOB.but(environment=ABSENT), Reason.POLICY_DENIED),
        fails(
            "another workflow", _DEPLOY, _JOB.but(job_workflow_ref=_JOB.claims["workflow_ref"]), Reason.POLICY_DENIED
        ),
        fails("a push, where pull requests are meant", _PREVIEW, _JOB, Reason.POLICY_DENIED),
        fails("the default audience", _DEPLOY, _JOB.but(aud="https://github.com/octo-org"), Reason.AUDIENCE_MISMATCH),
        fails("an enterprise's own issuer", _DEPLOY, _JOB.but(iss=f"{_ISSUER}/octocat-inc"), Reason.ISSUER_UNKNOWN),
        fails("a token from a log", _DEPLOY, _JOB.but(nbf=T - 1000, iat=T - 400, exp=T - 100), Reason.TOKEN_EXPIRED),
    ),
)
