"""`histobatch engines`: the GPU engines that this machine keeps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from worker.engines.cache import Entry

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The GPU engines that this machine keeps.")

Folder = Annotated[Path | None, typer.Option(help="Folder of engines; without it the workers' own.")]


@app.command("list")
def list_(folder: Folder = None) -> None:
    """Show each engine: what it was built from and for, whether it is whole, and what the parity gate said."""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(Column("engine", overflow="fold"), "graph", "GPU", "batch", "MB", "built", "state", "parity")
    for entry in _entries(folder):
        if entry.manifest is None:
            table.add_row(entry.folder.name, "", "", "", "", "", entry.fault, "")
            continue
        key = entry.manifest.key
        table.add_row(
            f"{entry.folder.name}\n{key.version}",
            key.onnx_sha256[:12],
            key.gpu,
            f"{key.profile.opt_batch} of {key.profile.max_batch}",
            f"{entry.manifest.bytes / 1e6:.1f}",
            f"{entry.manifest.built_at:%Y-%m-%d %H:%M}",
            entry.fault or "whole",
            _parity(entry.folder),
        )
    Console().print(table)


@app.command()
def prune(
    folder: Folder = None,
    every: Annotated[bool, typer.Option("--all", help="Delete all engines, not only those of no use.")] = False,
) -> None:
    """Delete engines that are broken or whose graph no bundle here has; workers build what they miss."""
    from worker.engines.cache import EngineCache

    known = _known_graphs()
    cache = EngineCache(_folder(folder))
    for entry in list(_entries(folder)):
        if every:
            why = "all were to go"
        elif entry.manifest is None or entry.fault:
            why = entry.fault or "its manifest is missing"
        elif entry.manifest.key.onnx_sha256 not in known:
            why = "no bundle here has its graph"
        else:
            continue
        cache.remove(entry)
        typer.echo(f"{entry.folder.name}: deleted, {why}")


def _folder(folder: Path | None) -> Path:
    from core.settings import read_settings
    from worker.engines.place import engines_folder

    return folder or engines_folder(read_settings())


def _entries(folder: Path | None) -> "list[Entry]":
    from worker.engines.cache import EngineCache

    return list(EngineCache(_folder(folder)).entries())


def _known_graphs() -> set[str]:
    from contextlib import suppress

    from core.bundle import find_serving_folder, iter_bundle_folders, read_manifest
    from core.errors import BundleError
    from core.settings import read_settings

    settings = read_settings()
    folders = set(iter_bundle_folders(settings.models))
    with suppress(BundleError):  # then none serves here
        folders.add(find_serving_folder(settings))
    manifests = [read_manifest(folder) for folder in folders]
    return {file.sha256 for manifest in manifests for file in manifest.files if file.role == "onnx"}


def _parity(folder: Path) -> str:
    from worker.engines.gate import read_gate_report

    report = read_gate_report(folder)
    if report is None:
        return "not judged"
    return f"{'passed' if report.passed else 'REFUSED'}, largest difference {report.largest_difference:.4f}"
