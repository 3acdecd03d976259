"""Loads a folder through a cache in a process of its own: FOLDER CACHE [images to stop after, or -1] [file size]."""

import resource
import sys
import time
from pathlib import Path

from trainer.dataset.images import load_dataset
from trainer.errors import DatasetError


def main() -> None:
    folder, cache, stop_after, file_size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    def listen(done: int, files: int) -> None:
        if 0 <= stop_after <= done:
            print("stopped", flush=True)
            time.sleep(600)

    try:
        data = load_dataset(folder, cache, listen)
    except DatasetError as error:
        sys.exit(str(error))
    print(len(data), data.fingerprint, data.pixels.sum(), data.fields.sum(), flush=True)


if __name__ == "__main__":
    main()
