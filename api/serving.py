"""Which model bundles are there, and which of them serves."""

from collections.abc import Iterator
from pathlib import Path

import structlog

from api.schemas import ModelPublic
from core.bundle import Manifest, find_serving_folder, iter_bundle_folders, read_manifest
from core.errors import BundleError
from core.settings import Settings

log = structlog.get_logger(__name__)


def list_models(settings: Settings) -> list[ModelPublic]:
    """Describe all bundles, the one that serves first. One that cannot be read is left out, and logged."""
    try:
        serving = find_serving_folder(settings).resolve()
    except BundleError:
        serving = None
    models = [
        _describe(manifest, folder.resolve() == serving) for folder, manifest in _read_manifests(settings, serving)
    ]
    return sorted(models, key=lambda model: (not model.serves, model.model_version))


def _read_manifests(settings: Settings, serving: Path | None) -> Iterator[tuple[Path, Manifest]]:
    folders = {folder.resolve() for folder in iter_bundle_folders(settings.models)}
    for folder in sorted(folders | ({serving} if serving else set())):
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
