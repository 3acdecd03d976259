"""Where the graph comes from that is compiled: a bundle, or a lone ONNX file."""

from pathlib import Path

from core.bundle import load_bundle
from core.errors import BundleError


def read_graph(source: Path) -> bytes:
    """Return the ONNX graph of a bundle, verified, or of a file.

    Raises:
        BundleError: there is none.
    """
    if source.is_dir():
        found = load_bundle(source).file("onnx", "fp16")
        if found is None:
            raise BundleError(f"bundle {source} has no FP16 graph: export it again")
        source = found
    try:
        return source.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{source} cannot be read ({error.strerror}): name a bundle's folder or an ONNX file"
        ) from error
