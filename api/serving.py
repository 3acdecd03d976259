"""Which model bundles are there, and which of them serves."""

from collections.abc import Iterator
from pathlib import Path

import structlog

from api.schemas import ModelPublic
from core.activation import find_active_bundle
from core.bundle import DecisionRule, Manifest, iter_bundle_folders, read_manifest
from core.errors import BundleError
from core.serving_tables import ModelActivation
from core.settings import Settings

log = structlog.get_logger(__name__)


def list_models(settings: Settings, active: ModelActivation | None = None) -> list[ModelPublic]:
    """Describe all bundles, the one that serves first. One that cannot be read is left out, and logged.

    Args:
        active: what was activated last; None where nothing was, so that the settings say what serves.
    """
    try:
        serving = find_active_bundle(settings, active).resolve()
    except BundleError:
        serving = None
    models = [
        _describe(manifest, folder.resolve() == serving) for folder, manifest in _read_manifests(settings, serving)
    ]
    return sorted(models, key=lambda model: (not model.serves, model.model_version))


def read_rules(settings: Settings) -> dict[str, DecisionRule]:
    """Read the decision rules of all models whose bundles are on this machine, by name@version."""
    return {model.model_version: model.decision for model in list_models(settings)}


def find_bundle_folder(settings: Settings, model_version: str) -> Path | None:
    """Find the bundle of a model by its name@version; None where it is not on this machine."""
    serving = None if settings.model is None else settings.model.resolve()
    for folder, manifest in _read_manifests(settings, serving):
        if manifest.model_version == model_version:
            return folder
    return None


def _read_manifests(settings: Settings, serving: Path | None) -> Iterator[tuple[Path, Manifest]]:
    folders = {folder.resolve() for folder in iter_bundle_folders(settings.models)}
    named = {folder.resolve() for folder in (serving, settings.model) if folder is not None}
    for folder in sorted(folders | named):
        try:
            yield folder, read_manifest(folder)
        except BundleError:
            log.warning("bundle_unreadable", bundle=folder.name)


def _describe(manifest: Manifest, serves: bool) -> ModelPublic:
    return ModelPublic(
        name=manifest.name,
        version=manifest.version,
        model_version=manifest.model_version,
        serves=serves,
        created_at=manifest.created_at,
        classes=manifest.classes,
        decision=manifest.decision,
        metrics=manifest.metrics,
        dataset=manifest.dataset.name,
        licence=manifest.licence,
        attribution=manifest.attribution,
    )
