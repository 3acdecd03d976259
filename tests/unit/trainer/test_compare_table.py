"""The table of a comparison: order, words and doubts."""

from pathlib import Path

import pytest

from core.bundle import NOTICE
from trainer.compare_plot import plot_comparison
from trainer.compare_table import HEADER, MEASURED, Comparison, Protocol, Row, as_markdown, cells
from trainer.systems.catalogue import NOT_KNOWN, SYSTEMS

pytestmark = pytest.mark.trainer

PROTOCOL = Protocol(
    fingerprint="f",
    images=10,
    patients=4,
    recipe={"name": "smoke", "batch": 8},
    folds=5,
    judged_folds=1,
    seed=0,
    threshold=0.5,
    bf16=False,
    device="CPU, 2 threads",
    torch="2",
)


def _row(name: str, **changes: object) -> Row:
    published = SYSTEMS[name].published
    values: dict[str, object] = {
        "system": name,
        "title": SYSTEMS[name].title,
        "start": "random start",
        "start_digest": "random start",
        "published_accuracy_percent": published.accuracy,
        "published_brief": published.brief,
        "published_protocol": published.protocol,
        "published_source": published.source,
        "published_looked_up": published.looked_up,
        "outcome": MEASURED,
        "accuracy": 0.75,
        "balanced_accuracy": 0.5,
        "auc": 0.625,
        "auc_interval": (0.5, 0.75),
        "patient_recognition_rate": 0.7,
        "parameters": 25_600_000,
        "gmac": 1.1496,
        "images_per_s": 47.4,
        "seconds": 3.0,
    }
    return Row.model_validate(values | changes)


def _comparison(*rows: Row) -> Comparison:
    comparison = Comparison(protocol=PROTOCOL, protocol_text="The protocol.")
    for row in rows:
        comparison = comparison.with_row(row)
    return comparison


def test_a_row_reads_as_measured() -> None:
    """Shares in percent, AUC with its interval, cost in the units of the header."""
    found = dict(zip(HEADER, cells(_row("resnet50")), strict=True))
    assert found["published % (elsewhere)"] == "99.1, shared patients"
    assert (found["accuracy %"], found["balanced %"], found["patient rate %"]) == ("75.0", "50.0", "70.0")
    assert found["AUC (95 %)"] == "0.625 (0.50-0.75)"
    assert (found["parameters"], found["GMAC"], found["images/s"]) == ("25.60 M", "1.150", "47")


def test_a_start_is_short_in_the_table_and_whole_below_it() -> None:
    """What a file of weights says of its source would make the table unreadable, and must not be lost."""
    row = _row("resnet50", start="ImageNet, w.safetensors (from somewhere, MIT)")
    assert cells(row)[1] == "ImageNet, w.safetensors"
    assert "- ResNet-50 (histobatch): ImageNet, w.safetensors (from somewhere, MIT)" in as_markdown(_comparison(row))
    assert "All from random weights." in as_markdown(_comparison(_row("lenet5")))


def test_a_metric_that_needs_both_classes_is_left_out_where_one_is_missing() -> None:
    """A dash, not a zero."""
    row = _row("resnet50", balanced_accuracy=None, auc=None, auc_interval=None)
    assert cells(row)[4:6] == ("-", "-")


def test_a_diverged_system_has_its_reason_in_the_place_of_numbers() -> None:
    """And its cost, which does not depend on training."""
    row = _row("lenet5", outcome="diverged: the loss is nan at step 2", accuracy=None, auc=None)
    assert cells(row)[3:5] == ("diverged: the loss is nan at step 2", "-")
    assert cells(row)[7] == "25.60 M"


def test_numbers_from_memory_are_marked() -> None:
    """Whoever quotes the table sees which published numbers nobody looked up."""
    assert cells(_row("alexnet"))[2].endswith("patients apart, unchecked")
    assert cells(_row("vgg19"))[2] == NOT_KNOWN
    assert "Unchecked" in as_markdown(_comparison(_row("alexnet")))


@pytest.mark.parametrize("entry", SYSTEMS.values(), ids=SYSTEMS)
def test_a_published_number_has_a_source_and_a_protocol(entry: object) -> None:
    """Where none is known the table says so, and nothing else."""
    published = SYSTEMS[getattr(entry, "name", "")].published
    known = published.accuracy != NOT_KNOWN
    assert bool(published.source) == bool(published.protocol) == bool(published.brief) == known
    assert known or not published.looked_up


def test_rows_stand_in_the_catalogues_order_once_each() -> None:
    """A row that comes again replaces the one before."""
    comparison = _comparison(_row("lenet5"), _row("resnet50"), _row("lenet5", accuracy=0.25))
    assert [(row.system, row.accuracy) for row in comparison.systems] == [("resnet50", 0.75), ("lenet5", 0.25)]


def test_a_protocol_names_what_differs() -> None:
    """The first field, or the first key of the recipe, with both values."""
    assert PROTOCOL.difference(PROTOCOL.model_copy()) is None
    assert PROTOCOL.difference(PROTOCOL.model_copy(update={"seed": 3})) == "seed: 0 there, 3 now"
    other = PROTOCOL.model_copy(update={"recipe": {"name": "smoke", "batch": 9}})
    assert PROTOCOL.difference(other) == "the recipe's batch: 8 there, 9 now"


def test_the_text_says_what_the_numbers_are_worth() -> None:
    """Notice, protocol, that published numbers do not compare, and what stand-ins are."""
    text = as_markdown(_comparison(_row("resnet50"), _row("dcnn14")))
    for part in (NOTICE, "The protocol.", "cannot be compared", "not the published networks", "DCNN-14 (stand-in)"):
        assert part in text


def test_the_picture_is_the_same_for_the_same_numbers(tmp_path: Path) -> None:
    """Diverged systems have no point; without any point there is still a picture."""
    full = _comparison(_row("resnet50"), _row("lenet5", gmac=0.01, accuracy=0.6))
    for name, comparison in (("a", full), ("b", full), ("c", _comparison(_row("lenet5", outcome="diverged: x")))):
        plot_comparison(comparison, tmp_path / name)
    pictures = [(tmp_path / name).read_bytes() for name in "abc"]
    assert pictures[0].startswith(b"\x89PNG")
    assert pictures[0] == pictures[1] != pictures[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
