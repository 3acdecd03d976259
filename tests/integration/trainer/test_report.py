"""`histobatch report`: one page that needs nothing else, read by a real browser."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.judging import report
from core.bundle import NOTICE
from tests.assets.disk_pages import measure_colours, opened_from_disk
from tests.integration.trainer.finished import COMMIT, write_images, write_run
from trainer.dataset.images import DataSet
from trainer.errors import RunError
from trainer.predictions import read_predictions
from trainer.published import PATIENT_RATE
from trainer.recipe import SHARED_PATIENTS
from trainer.report import Verification, write_report
from trainer.run import RunFolder
from trainer.verify import compare

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(600)]

PICTURES = ("confusion", "curves", "errors", "gradcam", "patients", "reliability", "roc")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataSet]:
    folder = tmp_path_factory.mktemp("images")
    return folder, write_images(folder, 0)


@pytest.fixture(scope="module")
def run(images: tuple[Path, DataSet], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_run(tmp_path_factory.mktemp("runs") / "run", images[1], images[0])


@pytest.fixture(scope="module")
def paper_run(images: tuple[Path, DataSet], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_run(tmp_path_factory.mktemp("runs") / "paper", images[1], images[0], shares_patients=True)


@pytest.fixture(scope="module")
def page(run: RunFolder) -> Path:
    """The report of a run with patients apart, where the command puts it."""
    report(run.path)
    return run.path / "report" / "report.html"


class _Reader(HTMLParser):
    """Collects tables, captions, pictures and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"img", "meta", "link", "br"}:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            self.texts[tag][-1] += data


def _read(path: Path) -> _Reader:
    return _Reader(path.read_text(encoding="utf-8"))


def test_the_page_needs_nothing_else(page: Path) -> None:
    """Every picture is inside, no address leads outside, and the same pictures lie beside it as PNG."""
    reader = _read(page)
    for _, attributes in reader.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
    assert "http" not in re.sub(r'"data:[^"]*"', "", page.read_text().replace("http-equiv", ""))
    assert sorted(path.name for path in page.parent.iterdir()) == sorted(
        [f"{n}.png" for n in PICTURES] + ["report.html"]
    )
    assert page.stat().st_size < 3_000_000


def test_the_page_says_what_it_is(page: Path, run: RunFolder) -> None:
    """Notice, protocol, fingerprint, commit, attribution, metrics with intervals, and the published bar."""
    text = " ".join(_read(page).texts["body"][0].split())
    config, metrics = run.read_config(), run.read_metrics()
    for part in (NOTICE, metrics.protocol, config.fingerprint, COMMIT, "Spanhol", "CC BY 4.0", "99.1% at 40X"):
        assert part in text
    for name in ("auc", "accuracy", "patient_recognition_rate"):
        low, high = metrics.intervals[name]
        assert f"{metrics.overall[name]:.3f} ({low:.3f} to {high:.3f})" in text
    for magnification in ("100", "400"):
        assert f"{PATIENT_RATE[magnification]:.3f}" in text
    assert SHARED_PATIENTS.upper() not in text


def test_the_page_names_the_commands_that_make_it_again(page: Path, images: tuple[Path, DataSet]) -> None:
    """Recipe, folds and seed from config.json; the images by placeholder, no path of this machine anywhere."""
    code = _read(page).texts["code"][0]
    assert f"git checkout {COMMIT}" in code
    assert (
        "histobatch train PATH/TO/BREAKHIS --out RUN --recipe smoke --weights resnet50.safetensors --folds 2 --seed 7"
        in code
    )
    assert "histobatch report RUN" in code
    assert str(images[0]) not in page.read_text()
    assert "pytest-of" not in page.read_text()


def test_what_was_not_run_is_not_made_up(page: Path, run: RunFolder, paper_run: RunFolder, tmp_path: Path) -> None:
    """Without a run under the paper's protocol the cell says so; with one it holds that run's number."""
    assert "not run here: histobatch train FULL --recipe paper" in page.read_text()
    report(run.path, paper_run=paper_run.path, out=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "not run here" not in text
    assert f"{paper_run.read_metrics().overall['accuracy']:.3f} (" in text
    assert "40,000 steps of 32 a fold, 12 images; published: 40,000 steps of 32, 7,909 images" in text
    with pytest.raises(RunError, match="recipe 'smoke': name one of recipe 'paper'"):
        report(run.path, paper_run=run.path, out=tmp_path / "report.html")


def test_a_run_that_shares_patients_is_branded_everywhere(paper_run: RunFolder, tmp_path: Path) -> None:
    """In the title, the heading, every table and under every picture; and in the pictures themselves."""
    report(paper_run.path, out=tmp_path / "report.html")
    reader = _read(tmp_path / "report.html")
    assert SHARED_PATIENTS.upper() in reader.texts["title"][0]
    for tag in ("h1", "caption", "figcaption"):
        assert reader.texts[tag]
        assert all(SHARED_PATIENTS in text for text in reader.texts[tag])
    apart = write_run(tmp_path / "again", *reversed(_images_of(paper_run)))
    report(apart.path, out=tmp_path / "apart" / "report.html")
    for name in PICTURES:
        assert (tmp_path / f"{name}.png").read_bytes() != (tmp_path / "apart" / f"{name}.png").read_bytes()


def _images_of(run: RunFolder) -> tuple[Path, DataSet]:
    from trainer.dataset.images import load_dataset

    source = Path(run.read_config().data)
    return source, load_dataset(source)


def test_a_run_without_curves_says_so(run: RunFolder, tmp_path: Path) -> None:
    """Runs of older versions kept no curves: the page does without, and no picture of another run is left beside it."""
    old = tmp_path / "old"
    shutil.copytree(run.path, old, copy_function=_link, ignore=shutil.ignore_patterns("curves.csv", "report"))
    (tmp_path / "curves.png").write_bytes(b"of another run")
    report(old, out=tmp_path / "report.html")
    assert "No curves were kept by this run." in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "curves.png").exists()


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def test_the_same_run_gives_the_same_bytes(page: Path, run: RunFolder, tmp_path: Path) -> None:
    """No clock, no software version, no order of a set."""
    report(run.path, out=tmp_path / "report.html")
    for path in sorted(page.parent.iterdir()):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_other_images_are_refused(run: RunFolder, tmp_path: Path) -> None:
    """A report on images that the run never saw would lie; an older page stays as it was."""
    write_images(tmp_path / "other", 30)
    (tmp_path / "report.html").write_text("older")
    with pytest.raises(RunError, match=r"fingerprint differs.*--data"):
        report(run.path, data=tmp_path / "other", out=tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "report.html"]


def test_a_bundles_report_holds_the_page_and_what_it_rests_on(
    run: RunFolder, images: tuple[Path, DataSet], tmp_path: Path
) -> None:
    """Page, pictures and tables in one flat folder; predictions as the metrics were counted on them."""
    probabilities = read_predictions(run.path / "oof.csv").probabilities
    agreement = compare("model.onnx", probabilities, probabilities, 0.5)
    verification = Verification(
        onnx=agreement,
        shipped_int8=replace(agreement, graph="int8"),
        int8=replace(agreement, graph="int8 out of fold"),
        fold_fp32=probabilities,
        fold_int8=probabilities,
    )
    write_report(tmp_path / "report", run, images[1], verification)
    names = {path.name for path in (tmp_path / "report").iterdir() if path.is_file()}
    tables = {"metrics.json", "oof.csv", "log.csv", "curves.csv", "training.json", "verification.json"}
    assert names == tables | {f"{name}.png" for name in PICTURES} | {"report.html"}
    assert "Exported graphs" in (tmp_path / "report" / "report.html").read_text()
    metrics = run.read_metrics()
    lines = [line.split(",") for line in (tmp_path / "report" / "oof.csv").read_text().splitlines()]
    assert lines[0][-1] == "calibrated_probability"
    right = [(float(line[-1]) >= metrics.decision.threshold) == (line[1] == "1") for line in lines[1:]]
    assert np.mean(right) == pytest.approx(metrics.overall["accuracy"])
    assert all(b"/pytest-of-" not in path.read_bytes() for path in (tmp_path / "report").iterdir())


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_opens_the_page_from_the_disk(chromium: Any, page: Path, scheme: str) -> None:
    """No console error, no request but the file itself, every picture decodes and has words for who cannot see it."""
    with opened_from_disk(chromium, page, scheme) as opened:
        pictures = opened.page.evaluate(
            "[...document.images].map(i => [i.complete && i.naturalWidth > 1, i.alt.length])"
        )
        ink, paper = measure_colours(opened.page)
        headings = opened.page.evaluate(
            "[...document.querySelectorAll('table')].map(t => t.querySelectorAll('th[scope]').length)"
        )
        wide = opened.is_wide()
    assert opened.errors == []
    assert [address for address in opened.requested if not address.startswith("data:")] == [page.as_uri()]
    assert len(pictures) > 10
    assert all(drawn and words > 20 for drawn, words in pictures)
    assert all(count > 1 for count in headings)
    assert not wide
    assert (ink < paper) == (scheme == "light")


@pytest.mark.browser
def test_the_page_prints_dark_on_white(chromium: Any, page: Path) -> None:
    """On paper nothing of the dark scheme is left, and no navigation."""
    context = chromium.new_context(color_scheme="dark")
    opened = context.new_page()
    opened.goto(page.as_uri())
    opened.emulate_media(media="print")
    ink, paper = measure_colours(opened)
    navigation = opened.evaluate("getComputedStyle(document.querySelector('nav')).display")
    context.close()
    assert ink == 0
    assert paper == 255 * 3
    assert navigation == "none"
