"""Proves the console in a real browser: policy, keyboard, narrow window, dark mode, hostile text, accessibility."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from authz.admin.console.access import Access
from authz.admin.console.page import VIEWS
from authz.admin.console.routes import make_console_routes
from authz.admin.server import AdminServer
from authz.config.address import TcpAddress
from authz.telemetry.recent import DecisionFilter
from tests.fakes.idp import FakeIdp
from tests.integration.browser import Browser, browsing
from tests.integration.sidecars import issuer, running
from tests.tools import TOOLS
from tests.unit.admin.console import documents
from tests.unit.envoy.serving import short_folder

pytestmark = pytest.mark.needs("chromium", "axe-core")

EVIL: Final = (
    "</title></textarea></pre><script>document.title='taken'</script>"
    '<img src=x onerror="document.title=\'taken\'">" autofocus onfocus="document.title=\'taken\'" x="\u202e'
)
# One page of each kind; those with a query show one thing in full.
PAGES: Final = (
    *VIEWS,
    "/console/issuers?issuer=x",
    "/console/decisions?decision_id=x",
    "/console/configuration?rules=50",
)
SHOTS: Final = os.environ.get("SCREENSHOTS")  # a folder to write pictures of the plain pages to


class Source:
    """A source with one text in every place."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.refreshed: list[str | None] = []

    def history(self) -> Mapping[str, Any]:
        shown = documents.history(self.text)
        return {**shown, "steps": shown["steps"] * 120}

    def keys(self) -> Mapping[str, Any]:
        named = {**documents.issuer(self.text, keys=20), "issuer": "x"}
        return {"issuers": [named, *({**named, "issuer": f"issuer-{number}"} for number in range(199))]}

    def decisions(self, wanted: DecisionFilter) -> Mapping[str, Any]:
        number = 1 if wanted.decision_id else wanted.limit
        return {"decisions": [documents.decision(self.text)] * number, "complete_since": 0.0}

    def configuration(self, _query: Mapping[str, str]) -> Mapping[str, Any]:
        shown = documents.config(self.text)
        return {**shown, "rules": shown["rules"] * 50, "rules_total": 10_000}

    def pressure(self) -> Mapping[str, Any]:
        return documents.pressed(self.text)

    def explain(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        said = {**documents.explanation(self.text), "detail": f"{question['method']} {question['path']}"}
        return {"explanations": [said]}

    def refresh(self, issuer: str | None) -> Mapping[str, object] | None:
        self.refreshed.append(issuer)
        return {}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all."""
    with browsing() as browser:
        yield browser


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as made:
        yield made


@pytest.fixture(params=["plain", "hostile"])
def source(request: pytest.FixtureRequest) -> Source:
    """What is shown: as it usually is, or with a hostile text in every field."""
    return Source("orders-api" if request.param == "plain" else EVIL)


@pytest.fixture
def url(source: Source) -> Iterator[str]:
    """Where the console is."""
    access = Access(None, csrf="the-token-of-the-page")
    routes = make_console_routes(source, access, clock=lambda: 1.8e9, writable=True)
    server = AdminServer(TcpAddress("127.0.0.1", 0), routes)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def is_untouched(browser: Browser) -> None:
    """Nothing was forbidden, for nothing was tried; no text of a document ran or loaded anything."""
    assert browser.run("window.violations") == []
    assert browser.complaints == []
    assert browser.run("document.title").endswith("\u00b7 authz")
    assert browser.run("document.querySelectorAll('script,img,iframe,[onerror],[onfocus],[autofocus]').length") == 0


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("window", ["wide", "narrow", "dark"])
def test_every_page_works_as_it_is(browser: Browser, url: str, source: Source, page: str, window: str) -> None:
    """In a wide and a narrow window, and in the dark: nothing is forbidden or overflows, and axe finds nothing."""
    browser.complaints.clear()
    browser.show(width=360 if window == "narrow" else 1280, dark=window == "dark")
    assert browser.open(f"{url}{page}") == 200
    is_untouched(browser)
    assert browser.run("document.styleSheets.length") == 1
    overflow = browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "the page itself scrolls sideways"
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(21, 24, 27)" if window == "dark" else "rgb(255, 255, 255)")
    if SHOTS is not None and source.text != EVIL:
        name = page.strip("/").replace("/", "-").partition("?")
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        browser.screenshot(Path(SHOTS) / f"{name[0] or 'now'}{'-one' if name[2] else ''}-{window}.png")
    assert look_with_axe(browser) == []


def look_with_axe(browser: Browser) -> list[str]:
    """Return what axe-core finds."""
    browser.run((TOOLS / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8") + ";0")
    found = browser.run("axe.run(document, {resultTypes: ['violations']}).then(result => result.violations)")
    return [f"{each['id']}: {[node['html'][:200] for node in each['nodes'][:3]]}" for each in found]


def test_it_is_used_by_the_keyboard_alone(browser: Browser, url: str) -> None:
    """The first key leads past the links, the next from view to view; what has the focus is seen to have it."""
    browser.show()
    browser.open(f"{url}/")
    browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "Skip to content"
    assert browser.run("document.activeElement.getBoundingClientRect().left") >= 0
    seen = []
    for _ in VIEWS:
        browser.press("Tab")
        seen.append(browser.run("document.activeElement.textContent"))
        assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert seen == list(VIEWS.values())
    assert browser.enter() == 200
    assert browser.run("document.querySelector('h1').textContent") == "Pressure"


def test_a_request_is_tried(browser: Browser, url: str) -> None:
    """A form that is filled in comes back with the steps, and without the token; nothing leaves this host."""
    browser.show()
    browser.open(f"{url}/console/try")
    browser.run("document.querySelector('#method').value = 'POST'")
    browser.run("document.querySelector('#path').value = '/orders/7'")
    browser.run("document.querySelector('#token').value = 'eyJhbGciOiJub25lIn0.e30.'")
    assert browser.follow("document.querySelector('main button').click()") == 200
    assert "POST /orders/7" in browser.run("document.querySelector('[role=status]').textContent")
    assert browser.run("document.querySelector('#token').value") == ""
    assert browser.run("document.querySelector('#path').value") == "/orders/7"
    assert "eyJhbGci" not in browser.run("document.documentElement.outerHTML")
    is_untouched(browser)


def test_keys_are_fetched_by_a_button(browser: Browser, url: str, source: Source) -> None:
    """It leads back to the issuer."""
    browser.show()
    browser.open(f"{url}/console/issuers?issuer=x")
    assert browser.follow("document.querySelector('main form button').click()") == 200
    assert browser.run("location.pathname + location.search") == "/console/issuers?issuer=x"
    assert source.refreshed == ["x"]


def test_decisions_are_found(browser: Browser, url: str) -> None:
    """By the form, with Enter, and by a link from one to the next."""
    browser.show()
    browser.open(f"{url}/console/decisions")
    browser.run("document.querySelector('#decision_id').value = '4f1d2a9c0b7e3356'")
    browser.run("document.querySelector('#decision_id').focus()")
    assert browser.enter() == 200
    assert "decision_id=4f1d2a9c0b7e3356" in browser.run("location.search")
    assert browser.run("document.querySelectorAll('dl dt').length") > 10
    is_untouched(browser)


def test_another_site_reads_and_changes_nothing(browser: Browser, url: str, source: Source) -> None:
    """A page under another name of this very address is another origin: it gets neither an answer nor a change."""
    browser.open(f"{url.replace('127.0.0.1', 'localhost')}/nowhere")  # a page that has no policy
    assert browser.run(f"fetch('{url}/decisions').then(() => 'read', () => 'refused')") == "refused"
    browser.run(f"document.body.innerHTML = `<form method=post action='{url}/console/refresh'><input name=issuer>`")
    assert browser.follow("document.forms[0].submit()") == 403
    assert source.refreshed == []


def test_a_running_sidecar_is_seen(browser: Browser, short: Path) -> None:
    """What a person looks at first: the pages of a sidecar that has decided; the picture of the document is of them."""
    with FakeIdp() as idp, running(short, issuer("corporate", idp)) as started:
        started.await_ready()
        expired = idp.mint(exp=1_700_000_000)
        for token, path in (
            *[(idp.mint(sub=name), f"/items/{number}") for number, name in enumerate(("alice", "bob", "carol"))],
            *((None, "/items/7"), (expired, "/items/7"), ("rubbish", "/items/9"), (None, "/public/logo.svg")),
            *((idp.mint(sub="dave"), "/other"), (idp.mint(sub="alice"), "/items/12")),
        ):
            started.check(token, path)
        browser.show(width=1180, height=780)
        browser.complaints.clear()  # of pages of other sites, before
        assert browser.open(f"{started.sidecar.admin_url}/console/decisions") == 200
        is_untouched(browser)
        rows = browser.run("[...document.querySelectorAll('tbody tr')].map(row => row.innerText)")
        assert len(rows) == 9
        assert all(any(reason in row for row in rows) for reason in ("authenticated", "token_expired", "policy_denied"))
        if SHOTS:
            browser.screenshot(Path(SHOTS) / "console.png")
