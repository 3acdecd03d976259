"""DATASET.md: what a data set holds, lacks and leaves out. The same images give the same card."""

from collections.abc import Iterable
from pathlib import Path

from core.bundle import NOTICE
from core.paths import path_to_text, readable
from trainer.dataset.completeness import Completeness, completeness
from trainer.dataset.images import ATTRIBUTION, LICENCE, NAME, DataSet
from trainer.dataset.names import BENIGN_TYPES, MALIGNANT_TYPES
from trainer.dataset.published import (
    FULL_IMAGES,
    FULL_PATIENTS,
    FULL_PATIENTS_BY_DIGITS,
    MAGNIFICATIONS,
    TYPES,
    count_cells,
    published_cell,
)

_SHOWN = 50


def dataset_card(data: DataSet, pictures: Iterable[str] = ()) -> str:
    """Return the card as Markdown.

    Args:
        data: the images.
        pictures: file names of PNGs that lie beside the card.
    """
    found = completeness(data)
    labels = data.labels.tolist()
    benign, malignant = (len({n.patient for n in data.names if n.label == label}) for label in (0, 1))
    parts = [
        f"# Data-set card: {NAME}",
        f"**{NOTICE}**",
        f"{len(data)} images of {data.patient_count} patients take part: {labels.count(0)} benign images of {benign} "
        f"patients, {labels.count(1)} malignant ones of {malignant}. A patient is the year and the digits of the slide "
        f"id. Counted as the authors do, each slide under its type, there are "
        f"{len({name.typed_slide for name in data.names})}.",
        f"Fingerprint `{data.fingerprint}`: sha256 over the sorted sha256 of the files that take part.",
        "## Licence and attribution",
        f"{LICENCE}. {ATTRIBUTION}",
        "## Images that take part, of those published",
        _table(data),
        _describe(found),
        *_left_out(data),
        *(["## Pictures", "\n\n".join(f"![{name}]({name})" for name in pictures)] if pictures else []),
    ]
    return "\n\n".join(parts) + "\n"


def _describe(found: Completeness) -> str:
    if not found.claims_full:
        return (
            f"This is a part: {found.images} of the {FULL_IMAGES:,} published images "
            f"({found.images / FULL_IMAGES:.1%}), counted before anything is left out. The full set has "
            f"{FULL_PATIENTS} patients as the authors count them, {FULL_PATIENTS_BY_DIGITS} by year and digits."
        )
    if found.differences:
        return f"**This is not the published set, although it has {found.images:,} images.** It differs:\n\n" + _items(
            found.differences
        )
    return f"This is the full set: all {FULL_IMAGES:,} published images are there, in the published numbers."


def _table(data: DataSet) -> str:
    counted = count_cells(data.names)
    heads = " | ".join(f"{magnification}X" for magnification in MAGNIFICATIONS)
    rows = [f"| class | type | {heads} | images | patients |", "|---|---|---|---|---|---|---|---|"]
    for short in TYPES:
        kind, full = ("benign", BENIGN_TYPES) if short in BENIGN_TYPES else ("malignant", MALIGNANT_TYPES)
        cells = " | ".join(f"{counted[short, m]} / {published_cell(short, m)}" for m in MAGNIFICATIONS)
        here = sum(counted[short, m] for m in MAGNIFICATIONS)
        there = sum(published_cell(short, m) for m in MAGNIFICATIONS)
        patients = len({name.patient for name in data.names if name.tumour_type == short})
        rows.append(f"| {kind} | {full[short]} ({short}) | {cells} | {here} / {there} | {patients} |")
    sums = [sum(counted[short, m] for short in TYPES) for m in MAGNIFICATIONS]
    published = [sum(published_cell(short, m) for short in TYPES) for m in MAGNIFICATIONS]
    cells = " | ".join(f"{a} / {b}" for a, b in zip(sums, published, strict=True))
    rows.append(f"| **all** | | {cells} | {len(data)} / {FULL_IMAGES} | {data.patient_count} |")
    return "\n".join(rows)


def _left_out(data: DataSet) -> list[str]:
    """Describe every image that takes no part, and why; empty kinds are said to be so."""
    doubles = [f"{_name(group[0])} is kept, left out: {_names(group[1:])}" for group in data.doubles]
    kinds = (
        ("Doubles: equal pixels under several names of one class, the first by name is kept", doubles),
        ("Contradictory: equal pixels under names of both classes, none is kept", [*map(_names, data.contradictory)]),
        ("Broken", [f"{_name(path)}: {readable(reason)}" for path, reason in data.broken]),
        ("Unknown names", [_name(path) for path in data.unknown]),
    )
    sections = ["## Left out"]
    for title, entries in kinds:
        sections.append(f"**{title}** ({len(entries)})" + (":\n\n" + _items(entries) if entries else ": none."))
    return sections


def _items(entries: Iterable[str]) -> str:
    lines = [f"- {entry}" for entry in entries]
    more = [f"- and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n".join(lines[:_SHOWN] + more)


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(_name(path) for path in paths)


def _name(path: Path) -> str:
    """Show a name as text that is neither Markdown nor a command to a terminal."""
    return f"`{readable(path_to_text(path.name.encode(errors='surrogateescape'))).replace('`', ' ')}`"
