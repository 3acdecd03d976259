"""What a GPU could do at best: dense FP16 on its tensor cores."""

import ctypes

# Floating-point operations a clock and multiprocessor, by compute capability; from the vendor's data sheets.
_PER_CLOCK = {
    (7, 0): 1024, (7, 5): 1024, (8, 0): 2048, (8, 6): 1024, (8, 9): 1024, (9, 0): 4096, (10, 0): 8192, (12, 0): 1024,
}  # fmt: skip
# Of CUdevice_attribute.
_MULTIPROCESSORS, _CLOCK_KHZ = 16, 13


def fp16_peak_tflops(capability: tuple[int, int]) -> float | None:
    """Return the peak of the first GPU at its highest clock; None where the generation is unknown."""
    per_clock = _PER_CLOCK.get(capability)
    if per_clock is None:
        return None
    cuda = ctypes.CDLL("libcuda.so.1")
    values = []
    for attribute in (_MULTIPROCESSORS, _CLOCK_KHZ):
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0)
        values.append(value.value)
    return values[0] * values[1] * 1e3 * per_clock / 1e12
