"""Proves the views of authz.admin.console: no text becomes markup, and no page grows without bound."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authz.admin.console import configuration, decisions, issuers, now
from authz.admin.console.markup import Markup, element, join, text
from authz.admin.console.page import address, instant, span, start_of
from tests.unit.admin.console import documents
from tests.unit.admin.console.documents import VIEWS, state
from tests.unit.admin.console.reader import Page
from tests.unit.telemetry.hostile import TEXTS

MAX_PAGE_BYTES = 512 * 1024
HOSTILE = (
    "<script>alert(1)</script>",
    "</title></textarea></pre></td></option><img src=x onerror=alert(1)>",
    '" onfocus=alert(1) autofocus="',
    "' onload='alert(1)",
    "<!--",
    "<![CDATA[",
    "<?php",
    "&lt;script&gt;&#60;b&#62;&amp",
    "javascript:alert(1)",
    "//evil.test/",
    "\ud800",
    "\u202e gnp.exe",
    *TEXTS,
)


def a_page(view: str, written: str) -> Page:
    """Return the page of *view* with a text in every place."""
    return Page(VIEWS[view](state(view, written)))


@pytest.mark.parametrize("view", VIEWS)
@given(written=st.text(min_size=1, max_size=60).filter(str.strip))
@example(written="deny")
def test_no_text_becomes_markup(view: str, written: str) -> None:
    """Whatever stands in whatever field, the page has the elements and attributes that it has with a letter there."""
    page = a_page(view, written)
    plain = a_page(view, "x")
    assert [tag for tag, _ in page.shape] == [tag for tag, _ in plain.shape]
    assert page.other == []
    for (tag, found), (_, expected) in zip(page.shape, plain.shape, strict=True):
        assert set(found) - {"class", "selected"} == set(expected) - {"class", "selected"}, tag
    assert all(where.startswith(("/", "#")) and not where.startswith("//") for where in page.values("href"))
    assert set(page.values("action")) <= {"/console/decisions", "/console/try", "/console/refresh"}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("written", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_meant_as_markup_is_shown_as_text(view: str, written: str) -> None:
    """The operator sees what was sent; a character that misleads is shown by its number."""
    page = a_page(view, written)
    assert page.shape == a_page(view, "x").shape
    for char in ("\u202e", "\x1b", "\x00", "\u2028", "\ud800"):
        assert char not in page.text
        assert char not in written or f"\\u{ord(char):04x}" in page.text
    plain = written.strip()
    if plain.isprintable() and len(plain) < 100:
        assert plain in page.text


@pytest.mark.parametrize("view", VIEWS)
def test_a_page_refers_to_nothing_elsewhere(view: str) -> None:
    """No script, no inline style, no image, no handler: the policy that goes with it allows none of them."""
    page = a_page(view, "x")
    tags = {tag for tag, _ in page.elements}
    names = {name for _, found in page.elements for name in found}
    assert not tags & {"script", "style", "img", "iframe", "object", "embed", "base"}
    assert not {name for name in names if name.startswith("on") or name in {"style", "src", "srcset"}}
    assert page.values("href").count("/console/style.css") == 1


@pytest.mark.parametrize("view", VIEWS)
def test_a_page_can_be_read_without_eyes(view: str) -> None:
    """One main heading, a language, a title, a label for every field that is seen, a header for every column."""
    page = a_page(view, "x")
    assert [tag for tag, _ in page.elements].count("h1") == 1
    assert page.values("lang") == ["en"]
    fields = [found["id"] for tag, found in page.elements if tag in {"input", "textarea", "select"} and "id" in found]
    assert fields == page.values("for")
    assert all(found.get("scope") == "col" for tag, found in page.elements if tag == "th")


def test_a_link_is_never_to_elsewhere() -> None:
    """What a client chose is only ever a value of a query, encoded."""
    assert address("/console/decisions", {"subject": "&x=1#//evil.test", "rule": "", "before": None}) == (
        "/console/decisions?subject=%26x%3D1%23%2F%2Fevil.test"
    )


def test_many_issuers_are_paged() -> None:
    """200 issuers with 1,000 keys each: a page has some of them, and one issuer some of its keys."""
    many = [{**documents.issuer(f"issuer-{number}", keys=1000), "worker": 0} for number in range(200)]
    overview = issuers.view(state("issuers", document={"issuers": many}, query={}))
    assert len(overview) < MAX_PAGE_BYTES
    assert "1 to 20 of 200" in Page(overview).text
    assert "issuer-20" not in overview.decode()
    last = Page(issuers.view(state("issuers", document={"issuers": many}, query={"from": "180"})))
    assert "issuer-199" in last.text
    assert "next" not in last.texts
    one = issuers.view(state("issuer", document={"issuers": many}, query={"issuer": "issuer-7"}))
    assert len(one) < MAX_PAGE_BYTES
    assert "950 more: authz keys" in Page(one).text


def test_many_decisions_are_paged() -> None:
    """A hundred of a thousand, then a link to those before."""
    many = [{**documents.decision("x" * 200), "at": 1000.0 - number} for number in range(1000)]
    page = decisions.view(state("decisions", document={"decisions": many, "complete_since": 0.0}, query={}))
    assert len(page) < MAX_PAGE_BYTES
    assert "/console/decisions?before=901.0" in Page(page).values("href")


def test_many_rules_are_paged() -> None:
    """What a page has of 10,000 rules and 1,000 warnings is bounded by the source and by the view."""
    some = {**documents.config("x"), "rules_total": 10_000}
    some["rules"] = [{"name": f"rule-{number}", "text": "x" * 500} for number in range(configuration.SIZE)]
    some["warnings"] = [{"path": "rules[1]", "message": "x" * 200}] * 1000
    page = configuration.view(state("configuration", document=some, query={"rules": "50"}))
    assert len(page) < MAX_PAGE_BYTES
    parsed = Page(page)
    assert "51 to 75 of 10000" in parsed.text
    assert "800 more: authz check-config" in parsed.text
    assert {"/console/configuration?rules=25", "/console/configuration?rules=75"} <= set(parsed.values("href"))


def test_an_hour_fits_a_page() -> None:
    """360 steps of every reason, in six drawings."""
    step = {**documents.history("x")["steps"][0], "reasons": {f"reason-{number}": 10**9 for number in range(31)}}
    page = now.view(state("now", document={"buckets": [0.001, 0.1], "steps": [step] * 360}, query={}))
    assert len(page) < MAX_PAGE_BYTES
    assert [tag for tag, _ in Page(page).elements].count("svg") == 6


def test_a_page_of_now_says_what_happened() -> None:
    """Rates, shares, and the bounds within which checks were answered, by the buckets of the metric."""
    page = Page(now.view(state("now", "token_expired")))
    assert "Checks: 0.9 a second, highest 0.9 a second" in page.text
    assert "Denials: 0.3 a second, highest 0.3 a second" in page.text
    assert "Half are answered within: 1 ms, highest 1 ms" in page.text
    assert "99 of 100 within: 100 ms, highest 100 ms" in page.text
    assert "6 (33.3%)" in page.text
    assert "/console/decisions?reason=token_expired" in page.values("href")
    # A step without checks is a gap in the line of their durations, and none in that of their number.
    lines = [found["points"] or "" for tag, found in page.elements if tag == "polyline"]
    assert [line.count(",") for line in lines] == [3, 3, 1, 1, 1, 1, 3, 3]


def test_a_page_of_now_before_the_first_step() -> None:
    """A process that has just started has nothing to show yet."""
    page = Page(now.view(state("now", document={"buckets": [0.1], "steps": []}, query={})))
    assert "No decision in the last hour." in page.text


def test_a_decision_of_an_error_page_is_found_in_one_step() -> None:
    """By its id there is one, with all that is recorded of it; one that is gone is said to be."""
    page = Page(decisions.view(state("decision", "0123456789abcdef")))
    assert {"audience", "expected_audience", "detail", "kid"} <= set(page.texts)
    gone = Page(decisions.view(state("decision", document={"decisions": [], "complete_since": 5.0})))
    assert "Nothing of it is kept here" in gone.text


def test_an_issuer_of_no_name_is_said_to_be_none() -> None:
    """A link from an old page may name one that was removed."""
    page = Page(issuers.view(state("issuer", document={"issuers": []}, query={"issuer": "gone"})))
    assert "No issuer of this name is configured." in page.text


def test_nothing_can_be_changed_from_a_page_that_is_read_only() -> None:
    """No button, and no key set of the configuration has one: nothing is fetched for it."""
    forms = [tag for tag, _ in Page(issuers.view(state("issuer", writable=False))).elements if tag == "form"]
    assert forms == []
    written = {**documents.issuer("x"), "next_refresh_seconds": None, "age_seconds": None, "serving": False}
    page = Page(issuers.view(state("issuer", document={"issuers": [written]})))
    assert "form" not in [tag for tag, _ in page.elements]
    assert "no keys yet" in page.text


def test_workers_that_agree_say_so_once() -> None:
    """An explanation that differs stands by itself, with the workers that gave it."""
    one, other = documents.explanation("x"), {**documents.explanation("y"), "worker": 7}
    both = {"explanations": [one, {**one, "worker": 5}, other]}
    page = Page(VIEWS["try"](state("try", document=both, query={})))
    assert [each for each in page.texts if each.startswith("Steps")] == ["Steps, by worker 1, 5", "Steps, by worker 7"]


@pytest.mark.parametrize(
    ("query", "start"), [("", 0), ("20", 20), ("-1", 0), ("x", 0), ("1" * 10, 0), ("\u0661", 0), ("1.5", 0)]
)
def test_a_position_is_a_number_or_the_first(query: str, start: int) -> None:
    """Whatever a query says."""
    assert start_of({"from": query}, "from") == start


def test_times_are_written_for_people() -> None:
    """In their largest unit, and with Z for UTC."""
    assert (span(None), span(90)) == ("\u2013", "90 s")
    assert (instant(None), instant(0)) == ("\u2013", "1970-01-01T00:00:00Z")


def test_markup_is_made_by_one_function_alone() -> None:
    """Text is escaped once, markup never; lists are joined; attributes are quoted, or left out."""
    assert element("p", "<", element("b", ">"), None, 1, ["a", Markup("<i>")]) == "<p>&lt;<b>&gt;</b>1a<i></p>"
    assert element("a", "x", href='"', title=None, hidden=False, open=True) == '<a href="&quot;" open>x</a>'
    assert element("input", aria_label="'", class_="c") == '<input aria-label="&#x27;" class="c">'
    assert join(["<", text("&")]) == "&lt;&amp;"
