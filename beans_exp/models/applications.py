"""The functional classes of `keras.applications` as bases, which take raw images like every other."""

from collections.abc import Callable

import keras
from keras import layers

from beans_exp.models.backbone import Base

SCALES = {
    "tf": ("inception_v3", "inception_resnet_v2", "mobilenet", "mobilenet_v2", "nasnet", "resnet_v2", "xception"),
    "torch": ("densenet",),
    "caffe": ("resnet", "vgg16", "vgg19"),
}
"""How the modules of `keras.applications` scale pixels, by Keras' names; the others scale them in their models."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's channels, red to blue, in 0..1."""
MEAN_BLUE_TO_RED = (103.939, 116.779, 123.68)


def application(image_size: int, *, arch: str, weights: str | None = None) -> Base:
    """Return the architecture `arch`, such as ResNet50, without its top."""
    function = getattr(keras.applications, arch)
    network = function(include_top=False, weights=weights, input_shape=(image_size, image_size, 3))
    return Base(network, pixel_scaling(function.__module__.rpartition(".")[2]))


def pixel_scaling(module: str) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """Return what `preprocess_input` of `module` does, as layers that are saved with a model."""
    kind = next((kind for kind, modules in SCALES.items() if module in modules), None)
    if kind == "tf":
        return layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")
    if kind == "torch":
        scale = [1 / (255 * deviation) for deviation in DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True)]
        return layers.Rescaling(scale, offset, name="rescaling")
    if kind == "caffe":
        centered = layers.Rescaling([1.0, 1.0, 1.0], [-mean for mean in MEAN_BLUE_TO_RED], name="rescaling")
        return lambda images: centered(keras.ops.flip(images, axis=-1))
    return lambda images: images
