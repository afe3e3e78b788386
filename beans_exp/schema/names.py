"""Names shared by configuration and code: the values that a key may take."""

DATASETS = ("beans", "synthetic", "folder", "table", "tfds")
FILES = ("folder", "table")
"""Data sets that are read from image files."""
FRACTIONS = (0.8, 0.1, 0.1)
"""Of training, validation and test images, for data that are not split."""
RESIZES = ("bilinear", "antialias")
FITS = ("squash", "crop", "pad")
AUGMENTATIONS = ("flip", "turn", "zoom", "contrast", "brightness")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "nadam", "adamax", "adagrad", "lion")
PRECISIONS = ("float32", "bfloat16", "auto")
SCHEDULES = ("constant", "cosine")
