"""`histobatch evaluate` and `histobatch report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.images import read_images
from cli.training import require_trainer
from core.bundle import NOTICE, Precision, load_bundle
from core.errors import ConfigurationError

if TYPE_CHECKING:
    from trainer.assess import Assessment, Figures
    from trainer.dataset.images import DataSet
    from trainer.run import RunFolder

_WORST_SHOWN = 10
# Wide enough for a branded title on one line.
_NARROW = 60


def evaluate(
    run_folder: Annotated[
        Path | None, typer.Argument(metavar="RUN_DIR", help="Folder that `histobatch train` wrote.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Judge a released bundle instead, with --data.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="BreakHis images; without it, those of the run, each judged by the fold that held it back."),
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the bundle's graph: int8 or fp32.")] = "int8",
    tta: Annotated[bool, typer.Option("--tta", help="Judge flipped and turned views, too.")] = False,
    allow_shared_patients: Annotated[
        bool, typer.Option("--allow-shared-patients", help="Judge patients that the run trained on; brands it.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to write; RUN_DIR/evaluation without it.")] = None,
) -> None:
    """Judge a run or a released bundle: metrics, intervals, calibration. Research use only, not for diagnosis."""
    require_trainer()
    from trainer.assess import figures
    from trainer.findings import write_findings

    console = Console()
    if (run_folder is None) == (bundle is None):
        raise ConfigurationError("name a run folder, or a bundle with --bundle and images with --data")
    if run_folder is not None:
        images, found = _assess_run(run_folder, data, tta, allow_shared_patients, console)
        folder = out or run_folder / "evaluation"
    elif bundle is not None:
        images, found = _assess_bundle(bundle, data, precision, tta, console)
        folder = out or Path(f"evaluation-{bundle.resolve().name}")
    plain = figures(found.predictions, found.rule)
    augmented = None if found.views is None else figures(found.views, found.rule)
    write_findings(folder, found, plain, augmented, images)
    _print(console, found, plain, augmented)
    console.print(f"written: {folder}", highlight=False)
    _require_reproduction(found)


def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder that `histobatch train` wrote.")],
    data: Annotated[Path | None, typer.Option(help="The images of the run, where they have moved since.")] = None,
    paper_run: Annotated[
        Path | None, typer.Option(help="A run of `--recipe paper`, to stand beside this one in the table.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="HTML file; RUN_DIR/report/report.html without it.")] = None,
) -> None:
    """Write one self-contained HTML page on a run, and its pictures. Research use only, not for diagnosis."""
    require_trainer()
    from trainer.reporting.page import write_page
    from trainer.run import RunFolder

    run = RunFolder(run_folder)
    images = read_images(_source(run, data))
    page = out or run_folder / "report" / "report.html"
    write_page(page, run, images, None if paper_run is None else RunFolder(paper_run))
    typer.echo(f"report: {page} ({page.stat().st_size / 1e6:.1f} MB). {NOTICE}")


def _assess_run(
    folder: Path, source: Path | None, tta: bool, allow_shared: bool, console: Console
) -> tuple["DataSet", "Assessment"]:
    from trainer.assess import assess_external, assess_out_of_fold
    from trainer.run import RunFolder

    run = RunFolder(folder)
    config = run.read_config()
    images = read_images(_source(run, source))
    with console.status("judging") as status:
        if source is None or images.fingerprint == config.fingerprint:
            return images, assess_out_of_fold(run, images, views=tta, say=status.update)
        return images, assess_external(run, images, views=tta, allow_shared=allow_shared)


def _assess_bundle(
    folder: Path, source: Path | None, precision: str, tta: bool, console: Console
) -> tuple["DataSet", "Assessment"]:
    from trainer.assess import assess_bundle

    if source is None:
        raise ConfigurationError("a bundle holds no images: name a folder of BreakHis images with --data")
    kinds: dict[str, Precision] = {"int8": "int8", "fp32": "fp32"}
    if precision not in kinds:
        raise ConfigurationError(f"no precision {precision!r}: choose int8 or fp32")
    loaded = load_bundle(folder)
    images = read_images(source)
    with console.status("judging"):
        return images, assess_bundle(loaded, images, kinds[precision], views=tta)


def _source(run: "RunFolder", named: Path | None) -> Path:
    """Return where a run's images are: where they are said to be, or where they were when it was trained.

    Raises:
        RunError: they are there no more.
    """
    from trainer.errors import RunError

    source = named or Path(run.read_config().data)
    if named is None and not source.exists():
        raise RunError(f"the images of {run.path} are no more at {source}: name their folder with --data")
    return source


def _print(console: Console, found: "Assessment", plain: "Figures", augmented: "Figures | None") -> None:
    from trainer.mistakes import worst_errors

    brand = found.brand.upper()
    console.print(f"[bold]{escape(found.subject)}[/]. {escape(found.protocol)}", highlight=False)
    console.print(_metrics_table(brand, plain, augmented))
    console.print(_magnification_table(brand, plain))
    if len(plain.by_fold) > 1:
        console.print(_fold_table(brand, plain))
    console.print(_calibration_table(brand, found.calibration, found.temperature))
    errors = Table(title=_title("Wrong, and most sure of it", brand), title_style="bold")
    for heading in ("file", "patient", "tumour", "zoom", "is", "P(mal.)"):
        errors.add_column(heading, overflow="fold")
    for error in worst_errors(found.predictions, found.rule.threshold, _WORST_SHOWN):
        cells = (error.file, error.patient, error.tumour, f"{error.magnification}X", error.truth)
        errors.add_row(*cells, f"{error.probability:.3f}")
    console.print(errors)
    console.print(NOTICE, style="bold")


def _metrics_table(brand: str, plain: "Figures", augmented: "Figures | None") -> Table:
    from trainer.views import VIEWS

    caption = "Intervals: patients drawn again." + ("" if augmented is None else f" Views: {VIEWS}; their mean logit.")
    table = Table(title=_title("All images", brand), title_style="bold", caption=caption, min_width=_NARROW)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval")
    if augmented is not None:
        table.add_column("+ views", justify="right")
    for name, value in plain.overall.items():
        low_high = plain.intervals.get(name)
        interval = "" if low_high is None else f"{low_high[0]:.3f} to {low_high[1]:.3f}"
        beside = () if augmented is None else (_number(name, augmented.overall[name]),)
        table.add_row(name.replace("_", " "), _number(name, value), interval, *beside)
    return table


def _magnification_table(brand: str, plain: "Figures") -> Table:
    from trainer.published import PATIENT_RATE, PATIENT_RATE_SOURCE

    table = Table(title=_title("By magnification", brand), title_style="bold", caption=f"bar: {PATIENT_RATE_SOURCE}")
    for heading in ("zoom", "images", "patients", "accuracy", "AUC", "patient rate", "95 % interval", "bar"):
        table.add_column(heading, justify="right")
    for magnification, values in sorted(plain.by_magnification.items(), key=lambda entry: int(entry[0])):
        rate = "patient_recognition_rate"
        table.add_row(
            f"{magnification}X",
            *(_number(name, values[name]) for name in ("images", "patients", "accuracy")),
            f"{values['auc']:.3f}" if "auc" in values else "one class",
            f"{values[rate]:.3f}",
            f"{values[f'{rate}_low']:.3f} to {values[f'{rate}_high']:.3f}",
            f"{PATIENT_RATE[magnification]:.3f}",
        )
    return table


def _fold_table(brand: str, plain: "Figures") -> Table:
    names = ("images", "patients", "auc", "accuracy", "balanced_accuracy", "patient_recognition_rate")
    table = Table(title=_title("By fold", brand), title_style="bold")
    table.add_column("fold")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for fold, values in plain.by_fold.items():
        table.add_row(fold, *(_number(name, values[name]) if name in values else "one class" for name in names))
    return table


def _calibration_table(brand: str, calibration: dict[str, float], temperature: float) -> Table:
    caption = f"temperature {temperature:.3f}; before and after it, fitted on other patients; ten bins"
    table = Table(title=_title("Calibration", brand), title_style="bold", caption=caption, min_width=_NARROW)
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in calibration.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}")
    return table


def _title(text: str, brand: str) -> str:
    return f"{text}: {brand}" if brand else text


def _number(name: str, value: float) -> str:
    return str(int(value)) if name in ("images", "patients") else f"{value:.3f}"


def _require_reproduction(found: "Assessment") -> None:
    """Say whether the run's own predictions came out again; an error where they did not."""
    from trainer.assess import REPRODUCTION_TOLERANCE
    from trainer.errors import VerificationError

    again = found.reproduction
    if again is None:
        return
    if not again.holds:
        raise VerificationError(
            f"oof.csv was NOT reproduced: {again.file} differs by {again.largest_difference:.4f} (at most "
            f"{REPRODUCTION_TOLERANCE} allowed): the checkpoints or the file are not those of this run"
        )
    typer.echo(f"oof.csv reproduced: {again.images} predictions, largest difference {again.largest_difference:.6f}")
