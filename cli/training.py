"""`histobatch train` and `histobatch export`."""

from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.images import read_images, tell_left_out
from core.bundle import NOTICE
from core.errors import ConfigurationError

if TYPE_CHECKING:  # importing torch takes seconds
    from trainer.dataset.images import DataSet
    from trainer.parallel import Ranks
    from trainer.plan import TrainingPlan
    from trainer.recipe import Recipe
    from trainer.run import RunFolder, RunMetrics


def train(
    data: Annotated[
        Path, typer.Argument(help="Folder, zip or tar that holds BreaKHis_v1, or the SOB_ images themselves.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    weights: Annotated[
        Path | None, typer.Option(help="ImageNet weights, safetensors; without it torchvision's are fetched.")
    ] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Begin with random weights.")] = False,
    recipe: Annotated[str, typer.Option(help="Named recipe: patient, paper or smoke.")] = "patient",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out was interrupted.")] = False,
    folds: Annotated[int | None, typer.Option(min=2, help="Patient-disjoint folds that judge the recipe.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps a fit, instead of the recipe's.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images a step, instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of folds, heads, batches and augmentation.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps decoded images; without it ~/.cache/histobatch.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; without it a GPU where there is one.")] = None,
    save_steps: Annotated[
        int | None, typer.Option(min=1, help="Save the state every so many steps, instead of every two minutes.")
    ] = None,
) -> None:
    """Cross-validate by patient, then fit on all images. Research use only, not for diagnosis.

    SIGTERM and Ctrl-C save the state; --resume goes on there, and after a crash at the last saved step. On several
    GPUs: torchrun --nproc-per-node N -m cli.main train ...
    """
    require_trainer()
    from trainer.parallel import joined_ranks
    from trainer.plan import TrainingPlan
    from trainer.recipe import named_recipe
    from trainer.run import RunFolder

    if weights is not None and from_scratch:
        raise ConfigurationError("--weights and --from-scratch exclude each other: leave one of them out")
    chosen = named_recipe(recipe)
    chosen = replace(chosen if steps is None else chosen.with_steps(steps), batch=batch or chosen.batch)
    plan = TrainingPlan(
        recipe=chosen,
        weights=weights,
        from_scratch=from_scratch,
        folds=folds,
        seed=seed,
        device=device,
        save_steps=save_steps,
    )
    run = RunFolder.resume(out) if resume else RunFolder.create(out)
    with joined_ranks(device) as ranks:
        images = read_images(data, cache)
        if ranks.first:
            _tell_images(images, chosen)
        metrics = _train(images, data, plan, run, ranks)
        if ranks.first:
            _tell_metrics(metrics, out)


def _train(images: "DataSet", source: Path, plan: "TrainingPlan", run: "RunFolder", ranks: "Ranks") -> "RunMetrics":
    """Train with a progress bar, until the end or a signal."""
    from trainer.crossvalidate import run_training, steps_left
    from trainer.fit import ignore
    from trainer.progress import training_progress
    from trainer.resume import stop_on_signals

    total = steps_left(images, plan, run)
    progress = training_progress(total) if ranks.first else nullcontext(ignore)
    with stop_on_signals() as stop, progress as listener:
        return run_training(images, source, plan, run, listener, stop=stop, ranks=ranks)


def _tell_images(images: "DataSet", recipe: "Recipe") -> None:
    from trainer.recipe import SHARED_PATIENTS

    typer.echo(NOTICE)
    typer.echo(f"{len(images)} images of {images.patient_count} patients")
    tell_left_out(images)
    if recipe.shares_patients:
        typer.echo(f"recipe {recipe.name} {SHARED_PATIENTS}", err=True)


def _tell_metrics(metrics: "RunMetrics", out: Path) -> None:
    from trainer.recipe import SHARED_PATIENTS

    brand = f"   {SHARED_PATIENTS}" if metrics.shares_patients else ""
    typer.echo(metrics.protocol)
    for name, value in metrics.overall.items():
        typer.echo(f"{name:28} {value:.3f}{brand}")
    typer.echo(f"run folder: {out}")
    typer.echo(NOTICE)


def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder that `histobatch train` wrote.")],
    version: Annotated[str, typer.Option(help="Version of the bundle, such as 0.1.0.")],
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "histobatch-breakhis",
    out: Annotated[Path, typer.Option(help="Folder of bundles.")] = Path("models"),
    data: Annotated[Path | None, typer.Option(help="Folder of the training images, where it has moved since.")] = None,
) -> None:
    """Export a run as a verified model bundle: ONNX FP16, OpenVINO INT8, report, card."""
    require_trainer()
    from trainer.publish import Identity, publish
    from trainer.run import RunFolder

    run = RunFolder(run_folder)
    images = read_images(data or Path(run.read_config().data))
    folder = publish(run, images, Identity(name=name, version=version), out)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    typer.echo(f"bundle: {folder} ({size / 1e6:.1f} MB), verified")


def require_trainer() -> None:
    """Say in one line how to install what training needs.

    Raises:
        ConfigurationError: torch or its company is missing.
    """
    for module in (
        "torch",
        "torchvision",
        "nncf",
        "onnx",
        "tensorboard",
    ):  # found, not imported: that would take seconds
        if find_spec(module) is None:
            raise ConfigurationError(
                f"training needs {module}, which is not installed: pip install 'histobatch[trainer]'"
            )
