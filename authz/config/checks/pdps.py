"""Checks of policy decision points (PDPs), and of what rules ask of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

from authz.config.checks.outbound import check_authorization, check_called_url, check_client_certificate
from authz.config.model import Config
from authz.config.pdp import Pdp, PdpQuestion
from authz.config.problems import KeyPath, Problem, quote, suggest
from authz.config.rules import Match, Rule
from authz.core.conditions import find_params
from authz.core.pdp import PdpKind
from authz.core.template import Template, references

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_ENDPOINT: Final = "/access/v1/evaluation"


def check_pdps(config: Config) -> Iterator[Problem]:
    """Report PDPs that cannot be asked, and questions that cannot be written."""
    for name, pdp in config.pdps.items():
        path: KeyPath = ("pdps", name)
        if not _NAME.fullmatch(name):
            message = "the name of a PDP has at most 64 letters, digits, dots, hyphens and underscores"
            yield Problem(path=path, message=message)
        yield from _check_url(pdp, (*path, "url"))
        yield from check_authorization(pdp, path)
        yield from check_client_certificate(pdp, path)
    for index, rule in enumerate(config.rules):
        if rule.require is not None and rule.require.pdp is not None:
            yield from _check_question(rule, rule.require.pdp, ("rules", index, "require", "pdp"), config)


def _check_url(pdp: Pdp, path: KeyPath) -> Iterator[Problem]:
    if problems := list(check_called_url(pdp.url, path, http=pdp.allows_http, section=path[:2])):
        yield from problems
        return
    endpoint = urlsplit(pdp.url).path.rstrip("/")
    if not endpoint:
        hint = f"AuthZEN: {_ENDPOINT}" if pdp.kind is PdpKind.AUTHZEN else "OPA: /v1/data/, and the path of a rule"
        yield Problem(path=path, message="names no endpoint", hint=hint)
    elif pdp.kind is PdpKind.AUTHZEN and endpoint.endswith("/evaluations"):
        message = "is the endpoint for several evaluations: some servers report errors there as denials"
        yield Problem(path=path, message=message, hint=f"use {_ENDPOINT}")


def _check_question(rule: Rule, question: PdpQuestion, path: KeyPath, config: Config) -> Iterator[Problem]:
    if question.name not in config.pdps:
        message = f"no pdp is named {quote(question.name)}"
        yield Problem(path=(*path, "name"), message=message, hint=suggest(question.name, config.pdps))
    try:
        templates = (rule.match or Match()).templates
    except ValueError:
        templates = ()  # reported at its place
    params = {name for template in templates for name in template.params}
    for section, key, read in _templates(question):
        setting_path = (*path, *_within(question, section), key)
        try:
            if getattr(section, key) == "":
                raise ValueError("must not be empty")
            used = list(_find_params(read(key)))
        except ValueError as error:
            yield Problem(path=setting_path, message=str(error))
            continue
        for name in used if templates else ():
            if name not in params:
                message = f"no path of this rule has a parameter {quote(name)}"
                yield Problem(path=setting_path, message=message, hint=suggest(name, params))


_Read = Callable[[str], Template]


def _templates(question: PdpQuestion) -> Iterator[tuple[object, str, _Read]]:
    """Yield the section, the key and the reader of each template."""
    for entity in (question.subject, question.resource):
        yield from ((entity, key, entity.text) for key in ("type", "id"))
        yield entity, "properties", entity.values
    yield question.action, "name", question.action.text
    yield question.action, "properties", question.action.values
    yield question, "context", question.values


def _within(question: PdpQuestion, section: object) -> KeyPath:
    names = {id(question.subject): "subject", id(question.action): "action", id(question.resource): "resource"}
    return (names[id(section)],) if id(section) in names else ()


def _find_params(template: Template) -> Iterator[str]:
    """Yield the path parameters that the references of *template* read."""
    for reference in references(template):
        if reference.names[:1] == ("params",):
            yield from reference.names[1:]
        elif reference.expression is not None:
            yield from (name for name, _ in find_params(reference.text))
