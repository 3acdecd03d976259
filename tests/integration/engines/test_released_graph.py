"""The released ONNX graph is one that a GPU compiler takes; needs no GPU, because TensorRT-RTX builds ahead of time."""

from core.bundle import load_bundle, newest_bundle_folder
from core.imaging import HEIGHT, WIDTH
from core.settings import Settings
from tests.conftest import missing_part


def test_released_graph_builds_as_a_strongly_typed_fp16_engine() -> None:
    """One graph serves every engine: FP16 is in the graph itself, and uint8 images of any batch size go in."""
    try:
        import tensorrt_rtx as trt
    except ImportError:
        missing_part("tensorrt_rtx")
    graph = load_bundle(newest_bundle_folder(Settings().models)).file("onnx", "fp16")
    assert graph is not None
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graph.read_bytes()), [parser.get_error(i) for i in range(parser.num_errors)]
    images, probabilities = network.get_input(0), network.get_output(0)
    assert (images.dtype, tuple(images.shape)) == (trt.DataType.UINT8, (-1, HEIGHT, WIDTH, 3))
    assert (probabilities.dtype, tuple(probabilities.shape)) == (trt.DataType.FLOAT, (-1,))
    half = {network.get_layer(i).get_output(0).dtype for i in range(network.num_layers)}
    assert trt.DataType.HALF in half
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape(images.name, (1, HEIGHT, WIDTH, 3), (64, HEIGHT, WIDTH, 3), (256, HEIGHT, WIDTH, 3))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    # Half-precision weights of 25 million parameters; a float32 engine would hold twice as much.
    assert 40e6 < engine.nbytes < 70e6
