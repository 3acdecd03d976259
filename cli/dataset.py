"""`histobatch dataset`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.training import require_trainer
from core.bundle import NOTICE

if TYPE_CHECKING:  # importing torch takes seconds
    from trainer.dataset.images import DataSet


def dataset(
    source: Annotated[Path, typer.Argument(help="Folder or zip or tar with BreaKHis_v1, or with SOB_ images.")],
    out: Annotated[Path, typer.Option(help="Folder to write the card and the pictures to.")],
    cache: Annotated[
        Path | None, typer.Option(help="Folder of decoded images; without it histobatch's in the user's cache.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the images that are shown and of their augmentation.")] = 0,
) -> None:
    """Describe a data set: a card with counts and faults, and pictures. Research use only, not for diagnosis."""
    require_trainer()
    from trainer.dataset.cache import default_cache
    from trainer.dataset.card import dataset_card
    from trainer.dataset.preparation import mounting, resizing, visualisation
    from trainer.dataset.progress import reading_progress
    from trainer.dataset.text import made_folder, write_text
    from trainer.recipe import named_recipe

    typer.echo(NOTICE)
    origin = mounting(source)
    made_folder(out)
    with reading_progress() as listener:
        data = resizing(origin, cache or default_cache(), listener)
    pictures = visualisation(data, named_recipe("patient"), out, seed)
    write_text(out / "DATASET.md", dataset_card(data, [path.name for path in pictures]))
    _tell(data)
    typer.echo(f"card and {len(pictures)} pictures: {out}")


def _tell(data: "DataSet") -> None:
    from trainer.dataset.completeness import completeness

    found = completeness(data)
    typer.echo(f"{len(data)} images of {data.patient_count} patients, fingerprint {data.fingerprint}")
    left_out = (
        f"{sum(len(group) - 1 for group in data.doubles)} doubles",
        f"{sum(map(len, data.contradictory))} contradictory",
        f"{len(data.broken)} broken",
        f"{len(data.unknown)} of unknown name",
    )
    typer.echo(f"left out: {', '.join(left_out)}")
    for difference in found.differences:
        typer.echo(f"not as published: {difference}", err=True)
