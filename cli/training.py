"""`histobatch train` and `histobatch export`."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from core.errors import ConfigurationError


def train(
    data: Annotated[Path, typer.Argument(help="Folder that holds BreaKHis_v1, or the SOB_ images themselves.")],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    weights: Annotated[
        Path | None, typer.Option(help="ImageNet weights, safetensors; without it torchvision's are fetched.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Named recipe: patient or smoke.")] = "patient",
    folds: Annotated[int, typer.Option(min=2, help="Patient-disjoint folds that judge the recipe.")] = 5,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps a fit, instead of the recipe's.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images a step, instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Of folds, heads, batches and augmentation.")] = 0,
) -> None:
    """Cross-validate by patient, then fit on all images. Research use only, not for diagnosis."""
    require_trainer()
    from trainer.crossvalidate import TrainingPlan, run_training
    from trainer.dataset import load_dataset
    from trainer.progress import training_progress
    from trainer.recipe import named_recipe
    from trainer.run import RunFolder

    chosen = named_recipe(recipe)
    chosen = replace(chosen, steps=steps or chosen.steps, batch=batch or chosen.batch)
    run = RunFolder.create(out)
    images = load_dataset(data)
    typer.echo(f"{len(images)} images of {images.patient_count} patients")
    for path in images.unknown:
        typer.echo(f"left out, no BreakHis name: {path.name}", err=True)
    for path, reason in images.broken:
        typer.echo(f"left out, {path.name}: {reason}", err=True)
    plan = TrainingPlan(recipe=chosen, weights=weights, folds=folds, seed=seed)
    with training_progress(chosen.steps * (folds + 1)) as listener:
        metrics = run_training(images, data, plan, run, listener)
    typer.echo(metrics.protocol)
    for name, value in metrics.overall.items():
        typer.echo(f"{name:28} {value:.3f}")
    typer.echo(f"run folder: {out}")


def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder that `histobatch train` wrote.")],
    version: Annotated[str, typer.Option(help="Version of the bundle, such as 0.1.0.")],
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "histobatch-breakhis",
    out: Annotated[Path, typer.Option(help="Folder of bundles.")] = Path("models"),
    data: Annotated[Path | None, typer.Option(help="Folder of the training images, where it has moved since.")] = None,
) -> None:
    """Export a run as a verified model bundle: ONNX FP16, OpenVINO INT8, report, card."""
    require_trainer()
    from trainer.dataset import load_dataset
    from trainer.publish import Identity, publish
    from trainer.run import RunFolder

    run = RunFolder(run_folder)
    images = load_dataset(data or Path(run.read_config().data))
    folder = publish(run, images, Identity(name=name, version=version), out)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    typer.echo(f"bundle: {folder} ({size / 1e6:.1f} MB), verified")


def require_trainer() -> None:
    """Say in one line how to install what training needs.

    Raises:
        ConfigurationError: torch or its company is missing.
    """
    for module in ("torch", "torchvision", "nncf", "onnx"):  # found, not imported: that would take seconds
        if find_spec(module) is None:
            raise ConfigurationError(
                f"training needs {module}, which is not installed: pip install 'histobatch[trainer]'"
            )
