"""The program that turns rows into Parquet: pickled rows come in, the file goes out. Started by api.parquet.

A process of its own, because pyarrow alone takes 60 MB of memory, and keeps more after a large export: all of that is
given back when the export ends, and the API has none of it. Imports nothing of ours, so that it starts fast.
"""

import pickle
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

_ROWS_A_GROUP = 32_768


def main() -> None:
    """Read pickles until their end: first the file's metadata, then chunks of rows. Write the file."""
    # sys.path begins with nothing of the working folder (-P), and only our parent can write here.
    write_file(sys.stdin.buffer, sys.stdout.buffer)


def write_file(source: BinaryIO, sink: BinaryIO) -> None:
    """Write one Parquet file, a row group at a time."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    metadata: dict[str, str] = pickle.load(source)  # noqa: S301 - written by our parent
    schema = make_schema(pa).with_metadata(metadata)
    models: set[str] = set()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for rows in _groups(source):
            columns = list(zip(*rows, strict=True))
            models.update(model for model in columns[schema.get_field_index("model_version")] if model)
            arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))
            sink.flush()
        writer.add_key_value_metadata({"models": " ".join(sorted(models))})


def make_schema(pa: Any) -> Any:
    """Name the columns and their types: what repeats is a dictionary, moments are UTC."""
    word = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            pa.field("item_id", pa.int64(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("path_exact", pa.string(), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("state", word, nullable=False),
            ("decision", word),
            ("probability", pa.float64()),
            ("reason", word),
            ("detail", pa.string()),
            ("model_version", word),
            ("engine", word),
            ("elapsed_ms", pa.float64()),
            ("content_hash", pa.string()),
            ("patient", word),
            ("slide", word),
            ("magnification", word),
            ("classified_at", pa.timestamp("us", tz="UTC")),
            ("verdict", word),
        ]
    )


def _groups(source: BinaryIO) -> Iterator[Sequence[tuple[object, ...]]]:
    """Gather chunks into row groups: small ones read slowly, large ones cost memory."""
    rows: list[tuple[object, ...]] = []
    while True:
        try:
            rows += pickle.load(source)  # noqa: S301 - written by our parent
        except EOFError:
            break
        if len(rows) >= _ROWS_A_GROUP:
            yield rows
            rows = []
    if rows:
        yield rows


if __name__ == "__main__":
    main()
