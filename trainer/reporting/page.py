"""One self-contained HTML page on a run."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from core.bundle import NOTICE
from trainer.dataset.images import ATTRIBUTION, NAME, DataSet
from trainer.output import naming_output, replacing
from trainer.reporting import figures, tables
from trainer.reporting.command import reproduction_commands
from trainer.reporting.pictures import Photograph, explained, photograph_uri, worst
from trainer.reporting.subject import Subject, read_subject
from trainer.run import RunFolder
from trainer.verify import Agreement


def write_page(
    path: Path,
    run: RunFolder,
    data: DataSet,
    paper_run: RunFolder | None = None,
    graphs: tuple[Agreement, ...] = (),
) -> None:
    """Write the page, and the pictures beside it; an older page of that name is replaced at the end, in one step.

    Args:
        path: the HTML file; its folder is made where it is missing.
        run: a finished run with its fold checkpoints.
        data: the images of the run.
        paper_run: a run of the recipe `paper`, for the table that compares.
        graphs: how exported graphs compare with the network, where there are some.

    Raises:
        RunError: a run is incomplete or another one than it must be, the images are not those of the run, or the
            page cannot be written.
        WeightsError: a fold's checkpoint cannot be read.
    """
    subject = read_subject(run, data)
    compared = tables.comparison_table(subject, paper_run)
    seen = explained(subject)
    errors = worst(subject)
    with naming_output(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = _draw(subject, path.parent, errors, seen)
        with replacing(path) as temporary:
            temporary.write_text(_render(subject, compared, drawn, (errors, seen), graphs), encoding="utf-8")


def _draw(
    subject: Subject, folder: Path, errors: list[Photograph], seen: list[Photograph]
) -> dict[str, figures.FigureOnPage | None]:
    """Draw every PNG into the folder; return those that the page holds, by name."""
    figures.draw_sheet(errors, "Wrong, and most sure of it", folder / "errors.png", subject.brand)
    figures.draw_sheet(seen, "What spoke for the class (Grad-CAM)", folder / "gradcam.png", subject.brand)
    return {
        "curves": figures.draw_curves(subject, folder),
        "roc": figures.draw_roc(subject, folder),
        "reliability": figures.draw_reliability(subject, folder),
        "confusion": figures.draw_confusion(subject, folder),
        "patients": figures.draw_patients(subject, folder),
    }


def _render(
    subject: Subject,
    compared: tables.PageTable,
    drawn: dict[str, figures.FigureOnPage | None],
    photographs: tuple[list[Photograph], list[Photograph]],
    graphs: tuple[Agreement, ...],
) -> str:
    environment = Environment(
        loader=PackageLoader("trainer.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["uri"] = photograph_uri
    errors, seen = photographs
    return environment.get_template("report.html.j2").render(
        subject=subject,
        recipe=subject.config.recipe["name"],
        brand=subject.brand,
        notice=NOTICE,
        figures=drawn,
        compared=compared,
        headline=tables.headline_table(subject),
        magnifications=tables.magnification_table(subject),
        folds=tables.fold_table(subject),
        calibration=tables.calibration_table(subject),
        engines=tables.engine_table(graphs) if graphs else None,
        errors=errors,
        explained=seen,
        commands=reproduction_commands(subject.config),
        dataset=NAME,
        attribution=ATTRIBUTION,
    )
