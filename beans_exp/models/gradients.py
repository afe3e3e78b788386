"""Kernel gradients of convolutions as matrix products, on CPUs where the library's own are slow.

Measured twice on two cores without AVX-512 over the convolutions above `mixed4` of Inception-v3: 100 and 105 GFLOP/s in
place of 81 and 89, where the other passes reach 126 to 141. `benchmarks/gradients.py` measures it on any machine.
"""

import keras
import tensorflow as tf
from keras import layers

from beans_exp.precision import cpu_flags

GOOD_KERNEL_GRADIENTS = "avx512f"
"""The CPU flag with which whole tuning steps were measured near the rate of a matrix product with oneDNN's own."""


def speed_up_kernel_gradients(model: keras.Model) -> None:
    """Let the convolutions of `model` that allow it compute their kernels' gradients as matrix products.

    Their outputs, weights and what is saved stay as they are; the gradients differ by rounding. Does nothing where the
    CPU's own are fast, or are not known not to be.
    """
    flags = cpu_flags()
    if not flags or GOOD_KERNEL_GRADIENTS in flags:
        return
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D) and is_plain(layer):
            layer.convolution_op = convolve


def is_plain(layer: layers.Conv2D) -> bool:
    """Whether `convolve` says what `layer` does."""
    steps = {*layer.strides, *layer.dilation_rate, layer.groups}
    odd = all(size % 2 for size in layer.kernel_size)
    return odd and steps == {1} and layer.padding == "same" and layer.data_format == "channels_last"


def convolve(images: tf.Tensor, kernel: tf.Tensor | keras.Variable) -> tf.Tensor:
    """Convolve (b, h, w, c) with an odd (i, j, c, d) kernel at stride 1, padded with zeros to the same size."""
    return _convolve(images, tf.convert_to_tensor(kernel))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _convolve(images: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, object]:
    def gradient(output: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        back = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(images), filter=kernel, out_backprop=output, strides=[1, 1, 1, 1], padding="SAME"
        )
        return back, kernel_gradient(images, output, kernel.shape)

    return tf.nn.conv2d(images, kernel, 1, "SAME"), gradient


def kernel_gradient(images: tf.Tensor, output: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
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
