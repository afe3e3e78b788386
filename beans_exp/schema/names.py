"""Names that configuration and code share: what may be chosen, and the metrics that a run logs."""

MODELS = ("lenet", "lenet5", "inception", "googlenet")
DATASETS = ("beans", "synthetic", "folder")
BLOCKS = tuple(f"mixed{index}" for index in range(11))
"""Inception-v3's blocks, bottom up; each ends at the concatenation layer of that name."""

GOOGLENET_DROPOUT = 0.4
AUGMENTATIONS = ("flip", "turn", "zoom", "contrast", "brightness")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "nadam", "adamax", "adagrad", "lion")
PRECISIONS = ("float32", "bfloat16", "auto")
SCHEDULES = ("constant", "cosine")

EPOCH_METRICS = {
    "train/loss": "minimize",
    "train/accuracy": "maximize",
    "train/cross_entropy": "minimize",
    "val/loss": "minimize",
    "val/accuracy": "maximize",
    "val/cross_entropy": "minimize",
    "time/epoch_seconds": "minimize",
}
RUN_METRICS = {
    "test/loss": "minimize",
    "test/accuracy": "maximize",
    "test/cross_entropy": "minimize",
    "best/val_accuracy": "maximize",
    "eval/train_accuracy": "maximize",
    "gap/accuracy": "minimize",
    "gap/eval_accuracy": "minimize",
    "time/total_seconds": "minimize",
    "time/ms_per_image": "minimize",
    "memory/peak_rss_mb": "minimize",
    "model/parameters": "minimize",
    "model/trainable_parameters": "minimize",
    "model/macs": "minimize",
    "model/size_mb": "minimize",
}
OBJECTIVES = EPOCH_METRICS | RUN_METRICS
"""Every metric that can be an objective, with the direction in which it gets better."""
