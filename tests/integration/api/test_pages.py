"""Pages in a real Chromium: no errors, no foreign requests, and what they show is true."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import update

from core.bundle import NOTICE
from core.states import ItemState, SubmissionState
from core.tables import Batch, Submission, utc_now
from tests.conftest import missing_part
from tests.integration.api.server import Api, add_batch, add_items, add_many_items, add_submission

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """A browser's page and what went wrong on it."""

    page: Any
    origin: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def open(self, address: str) -> None:
        """Go there and wait until nothing loads any more."""
        self.page.goto(self.origin + address, wait_until="load")

    def text(self, selector: str = "body") -> str:
        """The visible text."""
        return str(self.page.inner_text(selector))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running Chromium."""
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        missing_part("Chromium (set CHROMIUM to its path)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing_part("playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, api: Api) -> Iterator[Visit]:
    """A fresh page; any console error or foreign request fails the test at its end."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    opened = Visit(page, str(api.http.base_url).rstrip("/"))
    page.on("console", lambda message: opened.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: opened.errors.append(str(error)))
    page.on("requestfailed", lambda request: opened.errors.append(f"{request.url} {request.failure}"))

    def note(request: Any) -> None:
        url = request.url
        if not url.startswith((opened.origin, "data:", "blob:")):
            opened.foreign.append(url)

    page.on("request", note)
    yield opened
    page.goto("about:blank")
    context.close()
    assert [error for error in opened.errors if "ERR_ABORTED" not in error] == []
    assert opened.foreign == []


def _add_night(api: Api) -> str:
    submission_id = add_submission(api.database, folder="/images/night <b>&")
    add_items(
        api.database,
        submission_id,
        [
            {"path": "a<script>alert(1)</script>.png", "decision": "malignant", "probability": 0.93},
            {"path": "two\nlines.png", "decision": "benign", "probability": 0.02},
            {"path": "broken.png", "state": ItemState.FAILED, "reason": "corrupt", "detail": "it ends early"},
        ],
    )
    add_batch(api.database, submission_id, images=10, benign=1, malignant=1, failed=1)
    return submission_id


@pytest.mark.browser
def test_overview_shows_lanes_submissions_and_model(api: Api, visit: Visit) -> None:
    """Every lane, the newest submissions by name, the serving model, and the notice."""
    _add_night(api)
    visit.open("/")
    text = visit.text()
    for part in ("urgent", "bulk", "nightly", "/images/night <b>&", "resnet50 1.10.0", NOTICE):
        assert part in text
    assert visit.page.locator("svg.bar").first.get_attribute("aria-label").startswith("3 of 10 images")


@pytest.mark.browser
def test_overview_without_anything_says_how_to_begin(visit: Visit) -> None:
    """An empty installation is no empty page."""
    visit.open("/")
    assert "Nothing was handed in yet" in visit.text()


@pytest.mark.browser
def test_submission_page_shows_images_and_filters_them(api: Api, visit: Visit) -> None:
    """Names are text and never markup; a filter shows only its images; reasons lead to theirs."""
    submission_id = _add_night(api)
    visit.open(f"/submissions/{submission_id}")
    text = visit.text("table")
    assert "a<script>alert(1)</script>.png" in text
    assert "two\\nlines.png" in text
    assert "0.930" in text
    visit.page.click("nav.filters >> text=malignant")
    assert visit.page.locator("tbody tr").count() == 1
    visit.open(f"/submissions/{submission_id}?reason=corrupt")
    assert "it ends early" in visit.text("table")
    assert visit.page.locator("tbody tr").count() == 1
    assert NOTICE in visit.text()


@pytest.mark.browser
def test_submission_page_follows_the_work_by_itself(api: Api, visit: Visit) -> None:
    """While it runs, counts, bar and images change without a reload; at its end it stops asking."""
    submission_id = _add_night(api)
    visit.open(f"/submissions/{submission_id}")
    visit.page.evaluate("window.same = true")
    # Seen once unchanged, so that what follows is a change.
    with visit.page.expect_response(lambda answer: "/v1/submissions/" in answer.url):
        pass
    with api.database.write() as session:
        session.execute(update(Batch).values(benign=8))
        session.execute(update(Submission).values(state=SubmissionState.DONE, finished_at=utc_now()))
    visit.page.wait_for_selector(".state.done", timeout=20_000)
    assert "100.0 %" in visit.text("[data-live=progress]")
    assert visit.page.evaluate("window.same") is True
    assert visit.page.get_attribute("main", "data-poll") is None


@pytest.mark.browser
def test_large_submission_is_shown_in_pages(api: Api, visit: Visit) -> None:
    """10,000 images come a hundred at a time, and the next page goes on where this one ends."""
    submission_id = add_submission(api.database, state=SubmissionState.DONE, finished_at=utc_now())
    add_many_items(api.database, submission_id, 10_000, decision="benign")
    visit.open(f"/submissions/{submission_id}")
    assert visit.page.locator("tbody tr").count() == 100
    visit.page.click("text=Next page")
    assert "00000100.png" in visit.text("tbody tr:first-child")


@pytest.mark.browser
def test_documentation_works_without_the_internet(visit: Visit) -> None:
    """The browsable documentation shows our routes with scripts from this server alone."""
    visit.open("/docs")
    visit.page.wait_for_selector('[data-path="/v1/submissions/upload"]', timeout=30_000)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(api: Api, visit: Visit, scheme: str) -> None:
    """Body text, quiet text and links reach WCAG's 4.5 to 1 against their ground."""
    submission_id = _add_night(api)
    add_items(api.database, submission_id, [{"decision": "uncertain", "probability": 0.5}], first=10)
    visit.page.emulate_media(color_scheme=scheme)
    for address in ("/", f"/submissions/{submission_id}"):
        visit.open(address)
        ratios = visit.page.evaluate(_CONTRAST)
        assert len(ratios) > 10
        assert min(ratios.values()) >= 4.5, ratios


_CONTRAST = """() => {
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => {
      v = v / 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255,255,255)";
  };
  const out = {};
  for (const element of document.querySelectorAll("p, a, td, th, h1, h2, h3, span.state, span.unit, strong, li")) {
    if (!element.innerText || !element.innerText.trim()) continue;
    const a = luminance(getComputedStyle(element).color), b = luminance(ground(element));
    const key = `${element.tagName}.${element.className}`;
    out[key] = Math.min(out[key] ?? 99, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return out;
}"""


def test_page_of_an_unknown_submission_says_so(api: Api) -> None:
    """A page for people, with 404."""
    answer = api.http.get(f"/submissions/{'0' * 32}")
    assert answer.status_code == 404
    assert "there is no such submission" in answer.text
    assert NOTICE in answer.text


@pytest.mark.parametrize("query", ["show=odd", "show=failed&reason=%00", "cursor=0&reason='%3B--"])
def test_page_bears_odd_queries(api: Api, query: str) -> None:
    """What someone typed into the address shows nothing or all, and breaks nothing."""
    assert api.http.get(f"/submissions/{_add_night(api)}?{query}").status_code == 200
