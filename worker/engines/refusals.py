"""Why a GPU engine did not come to serve on this machine: workers note it, and the doctor tells it."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from worker.engines.cache import write_atomically

_FILE = "refusal.json"


class Refusal(BaseModel):
    """When which engine was refused, and why."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    engine: str
    why: str


def note_refusal(folder: Path, engine: str, why: str) -> None:
    """Keep why an engine does not serve; the log has it too, so a folder that cannot be written is no obstacle."""
    refusal = Refusal(at=datetime.now(UTC), engine=engine, why=why)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _FILE, refusal.model_dump_json(indent=2).encode())
    except OSError:
        return


def clear_refusal(folder: Path) -> None:
    """Forget it: the engine serves."""
    try:
        (folder / _FILE).unlink(missing_ok=True)
    except OSError:
        return


def read_refusal(folder: Path) -> Refusal | None:
    """Return the last refusal since which no GPU engine served."""
    try:
        return Refusal.model_validate_json((folder / _FILE).read_bytes())
    except (OSError, ValidationError):
        return None
