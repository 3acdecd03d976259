"""Which model serves: activating one, going back to the one before, and finding its bundle."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlmodel import Session, col, select

from core.audit import record
from core.bundle import MANIFEST, file_sha256, find_serving_folder, iter_bundle_folders, load_bundle, read_manifest
from core.errors import BundleError, PermanentError
from core.presence import read_workers
from core.serving_tables import ModelActivation
from core.settings import Settings

# Who the row names that records what served before anybody activated a model.
NOBODY = "histobatch"


class NoEarlierModel(PermanentError):
    """Nothing served before the model that serves."""


class ModelChanged(PermanentError):
    """Another model serves than whoever asked for a rollback saw."""


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle that this version can serve, every file as its manifest says."""

    model_version: str
    manifest_sha256: str


def read_active(session: Session) -> ModelActivation | None:
    """Read the activation that counts; None where no model was ever activated."""
    return session.exec(select(ModelActivation).order_by(col(ModelActivation.id).desc()).limit(1)).one_or_none()


def find_bundles(settings: Settings, model_version: str) -> list[Path]:
    """Find the folders of this machine's bundles of a model; verifies nothing."""
    folders = {folder.resolve() for folder in iter_bundle_folders(settings.models)}
    if settings.model is not None:
        folders.add(settings.model.resolve())
    return [folder for folder in sorted(folders) if _names(folder, model_version)]


def find_bundle(settings: Settings, model_version: str) -> Path:
    """Find the folder of the bundle of a model on this machine; verifies nothing.

    Raises:
        BundleError: it is not there, or two different bundles bear its name.
    """
    found = find_bundles(settings, model_version)
    if not found:
        raise BundleError(f"no bundle of {model_version} below {settings.models}: copy it there")
    if len({file_sha256(folder / MANIFEST) for folder in found}) > 1:
        names = ", ".join(folder.name for folder in found)
        raise BundleError(f"{names} are different bundles that both call themselves {model_version}: remove one")
    return found[0]


def find_active_bundle(settings: Settings, active: ModelActivation | None) -> Path:
    """Find the folder of the bundle that serves; an activation goes before the settings.

    Raises:
        BundleError: it is not on this machine.
    """
    return find_serving_folder(settings) if active is None else find_bundle(settings, active.model_version)


def verify_bundle(settings: Settings, model_version: str) -> VerifiedBundle:
    """Make sure that a bundle may be rolled out: hashes every file, in a second or so.

    Raises:
        BundleError: it is not on this machine, was altered, or is made for another version.
    """
    folder = find_bundle(settings, model_version)
    manifest_sha256 = file_sha256(folder / MANIFEST)
    load_bundle(folder)
    return VerifiedBundle(model_version, manifest_sha256)


def activate(session: Session, settings: Settings, bundle: VerifiedBundle, who: str, note: str = "") -> ModelActivation:
    """Make a model the one that serves; one that was activated last, with the same files, stays as it is.

    Without an activation before, what the workers say that they serve is recorded first, for a rollback.
    """
    _lock(session)
    before = read_active(session)
    if before and (before.model_version, before.manifest_sha256) == (bundle.model_version, bundle.manifest_sha256):
        return before
    if before is None:
        before = _add_base(session, settings, bundle.model_version)
    row = ModelActivation(
        who=who,
        model_version=bundle.model_version,
        note=note,
        manifest_sha256=bundle.manifest_sha256,
        follows=before.id if before else None,
    )
    return _add(session, row, "model.activate", before)


def read_earlier(session: Session, serving: str | None = None) -> ModelActivation:
    """Read the activation to which a rollback would return.

    Args:
        serving: the model that whoever asks believes to serve; None where they do not say.

    Raises:
        NoEarlierModel: there is none.
        ModelChanged: another model serves than they believe.
    """
    active = read_active(session)
    if active is None or active.follows is None:
        since = f"{active.model_version} serves, and" if active else "no model was activated, so that"
        raise NoEarlierModel(f"{since} nothing is known to have served before: activate a model by its name")
    if serving not in (None, active.model_version):
        raise ModelChanged(f"{active.model_version} serves by now, not {serving}: look again before you roll it back")
    return session.get_one(ModelActivation, active.follows)


def roll_back(
    session: Session, bundle: VerifiedBundle, who: str, note: str = "", serving: str | None = None
) -> ModelActivation:
    """Return to the model that served before the last activation; once more goes one step further back.

    Args:
        bundle: of the model that `read_earlier` named.

    Raises:
        NoEarlierModel, ModelChanged: see read_earlier; or somebody else activated a model in between.
    """
    _lock(session)
    earlier = read_earlier(session, serving)
    before = read_active(session)
    if earlier.model_version != bundle.model_version:
        raise ModelChanged(f"a rollback would return to {earlier.model_version} by now: look again")
    row = ModelActivation(
        who=who,
        model_version=bundle.model_version,
        note=note,
        manifest_sha256=bundle.manifest_sha256,
        # Not the model that is left: a second rollback must not bring it back.
        follows=earlier.follows,
    )
    return _add(session, row, "model.rollback", before)


def _lock(session: Session) -> None:
    """Let one after the other activate; on SQLite every transaction that writes is alone."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE model_activation IN SHARE ROW EXCLUSIVE MODE"))


def _add(session: Session, row: ModelActivation, action: str, before: ModelActivation | None) -> ModelActivation:
    session.add(row)
    session.flush()
    detail = {"before": before.model_version if before else None, "note": row.note, "manifest": row.manifest_sha256}
    record(session, row.who, action, row.model_version, detail)
    return row


def _add_base(session: Session, settings: Settings, activated: str) -> ModelActivation | None:
    """Record what serves without an activation, where that is known and is another model."""
    serving = _ask_workers(session) or _ask_settings(settings)
    if serving in (None, activated):
        return None
    row = ModelActivation(who=NOBODY, model_version=str(serving), note="served before any model was activated")
    session.add(row)
    session.flush()
    return row


def _ask_workers(session: Session) -> str | None:
    """Name the model that most workers serve; None where none says so."""
    served = [worker.model_version for worker in read_workers(session) if worker.is_serving and worker.engine != "fake"]
    return max(sorted(set(served)), key=served.count) if served else None


def _ask_settings(settings: Settings) -> str | None:
    try:
        return read_manifest(find_serving_folder(settings)).model_version
    except BundleError:
        return None


def _names(folder: Path, model_version: str) -> bool:
    try:
        return read_manifest(folder).model_version == model_version
    except BundleError:
        return False
