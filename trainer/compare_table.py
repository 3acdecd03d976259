"""What `histobatch compare` found: one row a system, as JSON, CSV, Markdown and text."""

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from core.bundle import NOTICE
from trainer.dataset.images import ATTRIBUTION
from trainer.errors import RunError
from trainer.run import write_csv, write_json
from trainer.systems.catalogue import NOT_KNOWN, SYSTEMS
from trainer.systems.weights import RANDOM

MEASURED = "measured"
COMPARISON = "compare.json"
_FIX = "remove it, or name another folder with --out"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Protocol(_Frozen):
    """Everything that all rows of one table share.

    Attributes:
        folds: patient-disjoint folds that the images were dealt into; the first `judged_folds` of them were judged.
        device: what trained and what images/s was measured on.
    """

    fingerprint: str
    images: int
    patients: int
    recipe: dict[str, object]
    folds: int
    judged_folds: int
    seed: int
    threshold: float
    bf16: bool
    device: str
    torch: str

    def difference(self, other: Self) -> str | None:
        """Name the first thing in which another protocol differs, with both values."""
        for name, mine in self:
            theirs = getattr(other, name)
            if mine != theirs:
                if name == "recipe":
                    return self._recipe_difference(other)
                return f"{name}: {mine} there, {theirs} now"
        return None

    def _recipe_difference(self, other: Self) -> str:
        names = sorted(self.recipe.keys() | other.recipe.keys())
        odd = next(name for name in names if self.recipe.get(name) != other.recipe.get(name))
        return f"the recipe's {odd}: {self.recipe.get(odd)} there, {other.recipe.get(odd)} now"


class Row(_Frozen):
    """One system.

    Attributes:
        start: the weights that it started from, in words, and `start_digest` by hash.
        published_looked_up: whether the published number was looked up, or is cited from memory.
        outcome: MEASURED, or why there are no metrics.
        accuracy, balanced_accuracy, auc, patient_recognition_rate: of the judged images; None where there are none.
        auc_interval: 95 %, patients drawn again.
        parameters, gmac: of body and head, for one image of 144x96.
        images_per_s: inference, batches of 32.
        seconds: training and judging.
    """

    system: str
    title: str
    start: str
    start_digest: str
    published_accuracy_percent: str
    published_brief: str
    published_protocol: str
    published_source: str
    published_looked_up: bool
    outcome: str
    accuracy: float | None = None
    balanced_accuracy: float | None = None
    auc: float | None = None
    auc_interval: tuple[float, float] | None = None
    patient_recognition_rate: float | None = None
    parameters: int
    gmac: float
    images_per_s: float
    seconds: float


class Comparison(_Frozen):
    """compare.json."""

    notice: str = NOTICE
    attribution: str = ATTRIBUTION
    protocol_text: str
    protocol: Protocol
    systems: tuple[Row, ...] = ()

    def row(self, system: str) -> Row | None:
        """Return a system's row, None where it has not been measured."""
        return next((row for row in self.systems if row.system == system), None)

    def with_row(self, row: Row) -> Self:
        """Return the comparison with another row, in the catalogue's order."""
        rows = {old.system: old for old in self.systems} | {row.system: row}
        return self.model_copy(update={"systems": tuple(rows[name] for name in SYSTEMS if name in rows)})

    def write(self, folder: Path) -> None:
        """Write compare.json in one step."""
        write_json(folder / COMPARISON, self.model_dump(mode="json"))


def read_comparison(path: Path) -> Comparison:
    """Read compare.json.

    Raises:
        RunError: unreadable or malformed.
    """
    try:
        return Comparison.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is malformed (no text): {_FIX}") from error
    except ValidationError as error:
        raise RunError(f"{path} is malformed ({error.errors()[0]['msg']}): {_FIX}") from error


HEADER = (
    "system",
    "start",
    "published % (elsewhere)",
    "accuracy %",
    "balanced %",
    "AUC (95 %)",
    "patient rate %",
    "parameters",
    "GMAC",
    "images/s",
)


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as text, in HEADER's order."""
    if row.outcome == MEASURED:
        auc = _decimals(row.auc, 3)
        if row.auc is not None and row.auc_interval is not None:
            auc += f" ({row.auc_interval[0]:.2f}-{row.auc_interval[1]:.2f})"
        metrics = (_percent(row.accuracy), _percent(row.balanced_accuracy), auc, _percent(row.patient_recognition_rate))
    else:
        metrics = (row.outcome, "-", "-", "-")
    remarks = [row.published_brief] if row.published_brief else []
    if not row.published_looked_up and row.published_accuracy_percent != NOT_KNOWN:
        remarks.append("unchecked")
    return (
        row.title,
        row.start.split(" (")[0],  # without the source that a file states of itself
        ", ".join([row.published_accuracy_percent, *remarks]),
        *metrics,
        f"{row.parameters / 1e6:.2f} M",
        f"{row.gmac:.3f}",
        f"{row.images_per_s:.0f}",
    )


def write_tables(comparison: Comparison, folder: Path) -> None:
    """Write compare.csv, with the notice and the protocol in every line, and compare.md."""
    common = (comparison.protocol_text, comparison.notice)
    rows = [(*row.model_dump(mode="json").values(), *common) for row in comparison.systems]
    write_csv(folder / "compare.csv", (*Row.model_fields, "protocol", "notice"), rows)
    temporary = folder / ".compare.md.part"
    try:
        temporary.write_text(as_markdown(comparison), encoding="utf-8")
        os.replace(temporary, folder / "compare.md")
    finally:
        temporary.unlink(missing_ok=True)


def as_markdown(comparison: Comparison) -> str:
    """Return the table with its protocol and the sources of the published numbers."""
    lines = ["| " + " | ".join(cells(row)) + " |" for row in comparison.systems]
    starts = [f"- {row.title}: {row.start}" for row in comparison.systems if row.start != RANDOM]
    sources = [_source(row) for row in comparison.systems if row.published_source]
    parts = [
        "# Systems under one protocol",
        f"**{comparison.notice}**",
        comparison.protocol_text,
        "\n".join(["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER), *lines]),
        "![accuracy against GMAC](compare.png)",
        "## Starts",
        "\n".join(starts) or "All from random weights.",
        "## Published accuracies",
        "They were found under other protocols, many with images of one patient on both sides, and cannot be compared "
        'with the measured ones. "not known" says that this project knows no number of that very network on BreakHis.',
        "\n".join(sources) or "None of the systems in this table.",
        "Rows that say (stand-in), (small, after) or (narrow, after) are not the published networks: what the "
        "publications leave open, and what was chosen, stands in the docstrings of trainer/systems.",
        "## Images",
        comparison.attribution,
    ]
    return "\n\n".join(parts) + "\n"


def _source(row: Row) -> str:
    looked_up = "Looked up." if row.published_looked_up else "Unchecked: cited from memory."
    number = f"{row.published_accuracy_percent} % ({row.published_protocol})"
    return f"- {row.title}: {number}. Source: {row.published_source}. {looked_up}"


def _percent(value: float | None) -> str:
    return _decimals(None if value is None else 100 * value, 1)


def _decimals(value: float | None, count: int) -> str:
    return "-" if value is None else f"{value:.{count}f}"
