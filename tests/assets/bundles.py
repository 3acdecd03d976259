"""Bundles that real engines load: copies of the committed one under versions of the tests' own."""

import shutil
from pathlib import Path

from core.bundle import newest_bundle_folder, read_manifest, write_manifest
from core.settings import PROJECT


def copy_bundle(models: Path, version: str) -> str:
    """Copy the committed bundle below models under another version; its name@version.

    Large files are links to the committed ones: nothing may write to them.
    """
    source = newest_bundle_folder(PROJECT / "models")
    folder = models / version
    shutil.copytree(source, folder, copy_function=_link)
    manifest = read_manifest(source).model_copy(update={"version": version})
    write_manifest(folder, manifest)
    return manifest.model_version


def alter(models: Path, version: str) -> None:
    """Change a byte of a file of a copied bundle."""
    card = models / version / "MODEL_CARD.md"
    text = card.read_bytes()
    card.unlink()
    card.write_bytes(text + b"!")


def _link(source: str, target: str) -> None:
    Path(target).symlink_to(source)
