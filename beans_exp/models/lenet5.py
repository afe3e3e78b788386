"""LeNet-5 of LeCun et al. 1998, with full connections between pooling and the second convolution."""

import keras
from keras import layers

from beans_exp.models.regularization import dropout_layer


def lenet5(image_size: int, classes: int, *, dropout: float = 0.0) -> keras.Model:
    """Return LeNet-5, which converts images to grey 32x32: 61,706 parameters with ten classes, 61,111 with three."""
    inputs = keras.Input((image_size, image_size, 3), name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    x = keras.ops.image.rgb_to_grayscale(x)
    x = layers.Resizing(32, 32, antialias=True, name="resizing")(x)
    for number, filters in enumerate((6, 16, 120), start=1):
        x = layers.Conv2D(filters, 5, activation="tanh", name=f"conv{number}")(x)
        if number < 3:
            x = layers.AveragePooling2D(2, name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = dropout_layer(dropout, "dropout1")(x)
    x = layers.Dense(84, activation="tanh", name="dense")(x)
    x = dropout_layer(dropout, "dropout2")(x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="lenet5")
