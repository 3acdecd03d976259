"""`histobatch compile`: make a GPU engine ahead of time."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from core.errors import ConfigurationError

Source = Annotated[Path, typer.Argument(metavar="BUNDLE|ONNX", help="A model bundle's folder, or an FP16 ONNX file.")]


def compile_(
    source: Source,
    target: Annotated[
        str, typer.Option(help="tensorrt, on the GPU that will run it; or tensorrt-rtx, on any machine.")
    ] = "tensorrt",
    output: Annotated[Path | None, typer.Option(help="Folder of engines; without it the workers' own.")] = None,
    opt_batch: Annotated[int | None, typer.Option(min=1, help="Images in a call that it is tuned for.")] = None,
    max_batch: Annotated[int | None, typer.Option(min=1, help="Most images in a call.")] = None,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Run on every GPU from Ampere on; slower.")
    ] = False,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Run with later versions of TensorRT; slower.")
    ] = False,
) -> None:
    """Compile a bundle's graph to a GPU engine, FP16; workers build what they lack, so this saves them the wait."""
    from rich.console import Console

    from core.settings import read_settings
    from trainer.compile.engine import CompileOrder, compile_engine
    from trainer.compile.graph_source import read_graph
    from trainer.compile.progress import build_progress
    from worker.engines.cache import BUILD_LOG, EngineCache
    from worker.engines.key import Compatibility, Profile
    from worker.engines.place import engines_folder, gpu_profile

    settings = read_settings()
    usual = gpu_profile(settings)
    try:
        profile = Profile(opt_batch=opt_batch or usual.opt_batch, max_batch=max_batch or usual.max_batch)
    except ValidationError as error:
        raise ConfigurationError("--opt-batch must not be larger than --max-batch, and neither than 4096") from error
    order = CompileOrder(
        graph=read_graph(source),
        target=target,
        profile=profile,
        compatibility=Compatibility(hardware=hardware_compatible, version=version_compatible),
    )
    cache = EngineCache(output or engines_folder(settings))
    with build_progress(Console(stderr=True)) as listener:
        key, made = compile_engine(order, cache, listener)
    state = "was there already" if made.why_built is None else f"built, because {made.why_built}"
    typer.echo(f"{key.flavour} {key.version}, FP16, 1 to {profile.max_batch} images, best with {profile.opt_batch}")
    typer.echo(f"engine: {made.folder} ({len(made.plan) / 1e6:.1f} MB), {state}; log: {BUILD_LOG} beside it")
