"""Kernel gradients of Inception-v3's convolutions: TensorFlow's own, as matrix products, on transposed images.

Times every convolution above `mixed4` at stride 1 in batches of 64, the best of four calls.
`beans_exp/models/cpu/conv_gradients.py` chooses between these by the CPU's flags. Printed: GFLOP/s of each and the
seconds of all, beside the forward pass.

    python benchmarks/gradients.py        # a minute on two idle cores

Nothing is asserted.
"""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from beans_exp.startup.imports import quiet_libraries
from benchmarks import measure

quiet_libraries()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from beans_exp.models.cpu.conv_gradients import is_supported, library_gradient, matmul_gradient, transposed_gradient  # noqa: E402

BATCH = 64
Shape = tuple[int, int, int, tuple[int, int]]


def main() -> None:
    """Time all convolutions and print them shape by shape."""
    measure.make_parser(__doc__).parse_args()
    total: Counter[str] = Counter()
    for (size, before, after, kernel), count in sorted(shapes().items()):
        images, output = tf.random.normal((BATCH, size, size, before)), tf.random.normal((BATCH, size, size, after))
        weights = tf.random.normal((*kernel, before, after))
        ways = {"library": library_gradient, "matmul": matmul_gradient, "transposed": transposed_gradient}
        seconds = {"forward": best(partial(tf.nn.conv2d, strides=1, padding="SAME"), images, weights)}
        seconds |= {name: best(partial(op, shape=weights.shape), images, output) for name, op in ways.items()}
        work = 2 * BATCH * size * size * before * after * kernel[0] * kernel[1] / 1e9
        rates = ", ".join(f"{name} {work / value:.0f}" for name, value in seconds.items())
        print(f"{size:2d} {before:4d} -> {after:3d} {kernel} x{count:2d}: {rates} GFLOP/s", flush=True)
        total.update({name: count * value for name, value in seconds.items()})
    print("all: " + ", ".join(f"{name} {value:.2f} s" for name, value in total.items()))
    print(measure.machine())


def shapes() -> Counter[Shape]:
    """Return size, input channels, output channels and kernel of each convolution above `mixed4`, with their counts."""
    base = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3))
    above = base.layers[base.layers.index(base.get_layer("mixed4")) :]
    found = [layer for layer in above if isinstance(layer, keras.layers.Conv2D) and is_supported(layer)]
    return Counter((layer.input.shape[1], layer.input.shape[3], layer.filters, layer.kernel_size) for layer in found)


def best(op: Callable[..., tf.Tensor], *tensors: tf.Tensor) -> float:
    """Return the seconds of the fastest of four calls of `op`; the first call, which traces it, does not count."""
    traced = tf.function(op)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        traced(*tensors)[0, 0, 0, 0].numpy()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


if __name__ == "__main__":
    main()
