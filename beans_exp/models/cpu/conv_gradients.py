"""Kernel gradients of convolutions in other ways than the library's own, on CPUs where that one is slow.

As matrix products on CPUs without AVX-512: measured twice on two cores over the convolutions above `mixed4` of
Inception-v3, 100 and 105 GFLOP/s in place of 81 and 89, where the other passes reach 126 to 141. On transposed images,
for upright kernels, on CPUs with it: 290 in place of 225, where kernels that lie reach 316, which makes a tuning step
of the top six blocks 3 % faster. `benchmarks/gradients.py` measures them on any machine.
"""

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers

from beans_exp.schema.precision import cpu_flags

WIDE = "avx512f"
"""The CPU flag that tells the two kinds of CPUs apart."""

KernelGradient = Callable[[tf.Tensor, tf.Tensor, tf.TensorShape], tf.Tensor]
"""From images (b, h, w, c), the gradient of the output (b, h, w, d), and the kernel's shape to its gradient."""


def speed_up_kernel_gradients(model: keras.Model) -> None:
    """Give the convolutions of `model` that allow it the fastest gradient of their kernels that is known for this CPU.

    Their outputs, weights and what is saved stay as they are; the gradients differ by rounding. Does nothing where the
    CPU does not tell what it is.
    """
    flags = cpu_flags()
    for layer in model.layers if flags else ():
        if isinstance(layer, layers.Conv2D) and is_plain(layer):
            if WIDE not in flags:
                layer.convolution_op = convolution(by_products)
            elif is_upright(layer):
                layer.convolution_op = convolution(by_transposing)


def is_plain(layer: layers.Conv2D) -> bool:
    """Whether `convolution` says what `layer` does."""
    steps = {*layer.strides, *layer.dilation_rate, layer.groups}
    odd = all(size % 2 for size in layer.kernel_size)
    return odd and steps == {1} and layer.padding == "same" and layer.data_format == "channels_last"


def is_upright(layer: layers.Conv2D) -> bool:
    """Whether the kernel of `layer` is a column."""
    return layer.kernel_size[0] > layer.kernel_size[1] == 1


def convolution(kernel_gradient: KernelGradient) -> Callable[[tf.Tensor, tf.Tensor | keras.Variable], tf.Tensor]:
    """Return what convolves (b, h, w, c) with an odd (i, j, c, d) kernel at stride 1, padded with zeros to its size."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolve(images: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(output: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            back = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(images), filter=kernel, out_backprop=output, strides=[1, 1, 1, 1], padding="SAME"
            )
            return back, kernel_gradient(images, output, kernel.shape)

        return tf.nn.conv2d(images, kernel, 1, "SAME"), gradient

    return lambda images, kernel: convolve(images, tf.convert_to_tensor(kernel))


def by_products(images: tf.Tensor, output: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """For each place of the kernel: the images as it sees them, times the gradient of the output."""
    rows, columns, before, after = shape
    height, width = images.shape[1:3]
    edges = [[0, 0], [rows // 2] * 2, [columns // 2] * 2, [0, 0]]
    padded = tf.pad(images, edges) if rows * columns > 1 else images
    flat = tf.reshape(output, (-1, after))
    seen = [padded[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
    return tf.reshape(tf.stack([_product(part, flat, before) for part in seen]), shape)


def _product(images: tf.Tensor, flat: tf.Tensor, channels: int) -> tf.Tensor:
    return tf.matmul(tf.reshape(images, (-1, channels)), flat, transpose_a=True)


def by_transposing(images: tf.Tensor, output: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """The gradient of the kernel that lies, of images that lie."""
    rows, columns, before, after = shape
    images, output = (tf.transpose(array, (0, 2, 1, 3)) for array in (images, output))
    lying = own(images, output, (columns, rows, before, after))
    return tf.transpose(lying, (1, 0, 2, 3))


def own(images: tf.Tensor, output: tf.Tensor, shape: tf.TensorShape | tuple[int, ...]) -> tf.Tensor:
    """The library's own gradient of a kernel."""
    return tf.raw_ops.Conv2DBackpropFilter(
        input=images, filter_sizes=shape, out_backprop=output, strides=[1, 1, 1, 1], padding="SAME"
    )
