"""Names shared by configuration and code: the values that a key may take."""

DATASETS = ("beans", "synthetic", "folder")
AUGMENTATIONS = ("flip", "turn", "zoom", "contrast", "brightness")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "nadam", "adamax", "adagrad", "lion")
PRECISIONS = ("float32", "bfloat16", "auto")
SCHEDULES = ("constant", "cosine")
