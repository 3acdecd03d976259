"""Submissions whose images are real files."""

import io
from pathlib import Path

import numpy as np
from blake3 import blake3
from PIL import Image

from core.database import Database
from core.states import ItemState
from tests.integration.api.server import Api, add_batch, add_items, add_submission


def write_picture(path: Path, seed: int, size: tuple[int, int] = (60, 40), form: str = "PNG") -> str:
    """Write an image of noise; returns its content hash."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return blake3(buffer.getvalue()).hexdigest()


def add_pictures(database: Database, folder: Path, amount: int, **values: object) -> tuple[str, list[int]]:
    """Record a submission of malignant images that lie in a folder; returns its id and theirs."""
    submission_id = add_submission(database, folder=str(folder))
    hashes = [write_picture(folder / f"{number}.png", number, (384, 256)) for number in range(amount)]
    images: list[dict[str, object]] = [
        {"path": f"{number}.png", "decision": "malignant", "probability": 0.9 - number / 100, **values}
        for number in range(amount)
    ]
    ids = add_items(database, submission_id, images)
    set_hashes(database, dict(zip(ids, hashes, strict=True)))
    return submission_id, ids


def set_hashes(database: Database, hashes: dict[int, str]) -> None:
    """Give images the content hashes that their files have."""
    with database.write() as session:
        for item_id, content_hash in hashes.items():
            session.connection().exec_driver_sql(
                f"UPDATE item SET content_hash = '{content_hash}' WHERE id = {item_id}"
            )


def add_night(api: Api, first: int = 0) -> str:
    """Record a submission that runs, with odd names and an image of each fate; its id."""
    submission_id = add_submission(api.database, folder="/images/night <b>&")
    add_items(
        api.database,
        submission_id,
        [
            {"path": "a<script>alert(1)</script>.png", "decision": "malignant", "probability": 0.93},
            {"path": "two\nlines.png", "decision": "benign", "probability": 0.02},
            {"path": "broken.png", "state": ItemState.FAILED, "reason": "corrupt", "detail": "it ends early"},
        ],
        first,
    )
    add_batch(api.database, submission_id, images=10, benign=1, malignant=1, failed=1)
    return submission_id
