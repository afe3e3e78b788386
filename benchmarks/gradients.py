"""The kernel gradients of Inception-v3's convolutions: TensorFlow's own, as matrix products, on transposed images.

Every convolution above `mixed4` at stride 1, batches of 64, the best of four: what `models/gradients.py` decides by the
CPU's flags is looked at here. GFLOP/s of each, then the seconds of all of them, the forward pass beside.

    python benchmarks/gradients.py        # a minute on two cores, on an idle machine

Nothing is asserted.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from benchmarks.overhead import ENVIRONMENT, machine

os.environ.update(ENVIRONMENT | os.environ)

import keras
import tensorflow as tf

from beans_exp.models.cpu.conv_gradients import by_products, by_transposing, is_plain, own

BATCH = 64
Shape = tuple[int, int, int, tuple[int, int]]


def main() -> None:
    """Time all, and print them shape by shape."""
    total: Counter[str] = Counter()
    for (size, before, after, kernel), count in sorted(shapes().items()):
        images, output = tf.random.normal((BATCH, size, size, before)), tf.random.normal((BATCH, size, size, after))
        weights = tf.random.normal((*kernel, before, after))
        ways = {"own": own, "product": by_products, "transposed": by_transposing}
        seconds = {"forward": best(partial(tf.nn.conv2d, strides=1, padding="SAME"), images, weights)}
        seconds |= {name: best(partial(op, shape=weights.shape), images, output) for name, op in ways.items()}
        work = 2 * BATCH * size * size * before * after * kernel[0] * kernel[1] / 1e9
        rates = ", ".join(f"{name} {work / value:.0f}" for name, value in seconds.items())
        print(f"{size:2d} {before:4d} -> {after:3d} {kernel} x{count:2d}: {rates} GFLOP/s", flush=True)
        total.update({name: count * value for name, value in seconds.items()})
    print("all: " + ", ".join(f"{name} {value:.2f} s" for name, value in total.items()))
    print(machine())


def shapes() -> Counter[Shape]:
    """Size, channels before and after and kernel of every convolution above `mixed4`, counted."""
    base = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3))
    above = base.layers[base.layers.index(base.get_layer("mixed4")) :]
    found = [layer for layer in above if isinstance(layer, keras.layers.Conv2D) and is_plain(layer)]
    return Counter((layer.input.shape[1], layer.input.shape[3], layer.filters, layer.kernel_size) for layer in found)


def best(op: Callable[..., tf.Tensor], *tensors: tf.Tensor) -> float:
    """The seconds of the fastest of four calls of `op`."""
    traced = tf.function(op)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        traced(*tensors)[0, 0, 0, 0].numpy()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


if __name__ == "__main__":
    main()
