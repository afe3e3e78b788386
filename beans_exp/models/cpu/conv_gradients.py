"""Faster kernel gradients of convolutions on CPUs whose library is slow at them.

On CPUs without AVX-512, as matrix products: 100 and 105 GFLOP/s instead of 81 and 89, measured twice on two cores over
the convolutions above `mixed4` of Inception-v3 (the other passes reach 126 to 141). On CPUs with AVX-512, column
kernels on transposed images: 290 GFLOP/s instead of 225 (row kernels reach 316), which makes a training step of the top
six blocks 3 % faster. `benchmarks/gradients.py` measures them on any machine.
"""

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers

from beans_exp.schema.precision import cpu_flags

WIDE = "avx512f"
"""The CPU flag that distinguishes the two kinds of CPUs."""

KernelGradient = Callable[[tf.Tensor, tf.Tensor, tf.TensorShape], tf.Tensor]
"""From images (b, h, w, c), the gradient of the output (b, h, w, d) and the kernel shape to the kernel gradient."""


def speed_up_kernel_gradients(model: keras.Model) -> None:
    """Replace the kernel gradients of the supported convolutions of `model` by the fastest known on this CPU.

    Outputs, weights and saved files stay the same; the gradients differ by rounding. Does nothing on a CPU with unknown
    features.
    """
    flags = cpu_flags()
    for layer in model.layers if flags else ():
        if isinstance(layer, layers.Conv2D) and is_supported(layer):
            if WIDE not in flags:
                layer.convolution_op = convolution(matmul_gradient)
            elif has_column_kernel(layer):
                layer.convolution_op = convolution(transposed_gradient)


def is_supported(layer: layers.Conv2D) -> bool:
    """Whether `convolution` computes the same as `layer`."""
    steps = {*layer.strides, *layer.dilation_rate, layer.groups}
    odd = all(size % 2 for size in layer.kernel_size)
    return odd and steps == {1} and layer.padding == "same" and layer.data_format == "channels_last"


def has_column_kernel(layer: layers.Conv2D) -> bool:
    """Whether the kernel of `layer` is one pixel wide and several high."""
    return layer.kernel_size[0] > layer.kernel_size[1] == 1


def convolution(kernel_gradient: KernelGradient) -> Callable[[tf.Tensor, tf.Tensor | keras.Variable], tf.Tensor]:
    """Return a convolution of (b, h, w, c) with an odd (i, j, c, d) kernel, at stride 1 and with zero padding."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolve(images: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(output: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            back = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(images), filter=kernel, out_backprop=output, strides=[1, 1, 1, 1], padding="SAME"
            )
            return back, kernel_gradient(images, output, kernel.shape)

        return tf.nn.conv2d(images, kernel, 1, "SAME"), gradient

    return lambda images, kernel: convolve(images, tf.convert_to_tensor(kernel))


def matmul_gradient(images: tf.Tensor, output: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Compute the kernel gradient as one matrix product per kernel position: its view of the images times `output`."""
    rows, columns, before, after = shape
    height, width = images.shape[1:3]
    edges = [[0, 0], [rows // 2] * 2, [columns // 2] * 2, [0, 0]]
    padded = tf.pad(images, edges) if rows * columns > 1 else images
    flat = tf.reshape(output, (-1, after))
    views = [padded[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
    return tf.reshape(tf.stack([_product(view, flat, before) for view in views]), shape)


def _product(images: tf.Tensor, flat: tf.Tensor, channels: int) -> tf.Tensor:
    return tf.matmul(tf.reshape(images, (-1, channels)), flat, transpose_a=True)


def transposed_gradient(images: tf.Tensor, output: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Compute the gradient of a column kernel as that of a row kernel on transposed images."""
    rows, columns, before, after = shape
    images, output = (tf.transpose(array, (0, 2, 1, 3)) for array in (images, output))
    transposed = library_gradient(images, output, (columns, rows, before, after))
    return tf.transpose(transposed, (1, 0, 2, 3))


def library_gradient(images: tf.Tensor, output: tf.Tensor, shape: tf.TensorShape | tuple[int, ...]) -> tf.Tensor:
    """Compute the kernel gradient with the library's own operation."""
    return tf.raw_ops.Conv2DBackpropFilter(
        input=images, filter_sizes=shape, out_backprop=output, strides=[1, 1, 1, 1], padding="SAME"
    )
