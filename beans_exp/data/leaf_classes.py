"""Facts about the drawn leaves that are needed before one is drawn."""

GENERATOR_VERSION = 1  # raised by hand when the drawing changes: part of the data digest
CLASSES = ("angular_leaf_spot", "bean_rust", "healthy")
SMALLEST_SIZE = 32  # below it a pustule is less than a pixel
