"""Every metric that a run logs: objectives, tables, the report and the documentation are derived from this list."""

from dataclasses import KW_ONLY, dataclass
from functools import partial


@dataclass(frozen=True)
class Metric:
    """A metric, where it comes from, and how it is shown.

    `style` is `percent` (a share of 1), `points` (a difference of shares, with its sign) or `number`; a number is shown
    in units of `unit` with `decimals`.
    """

    name: str
    heading: str
    meaning: str
    direction: str | None = None
    """`maximize` or `minimize`; None if neither is better; such a metric cannot be an objective."""
    _: KW_ONLY
    per_epoch: bool = False
    needs_test: bool = False
    style: str = "number"
    decimals: int = 3
    unit: float = 1.0

    def text(self, value: float) -> str:
        """Return `value` as a reader sees it, without the heading's unit."""
        if self.style == "percent":
            return f"{100 * value:.1f} %"
        if self.style == "points":
            return f"{100 * value:+.1f}"
        return f"{value / self.unit:.{self.decimals}f}"


def _split_metrics(split: str, part: str, when: str) -> list[Metric]:
    """Loss, accuracy and cross-entropy of one split; those of `test` are measured once, the others in each epoch."""
    metric = partial(Metric, per_epoch=split != "test", needs_test=split == "test")
    return [
        metric(f"{split}/loss", f"{part} loss", f"with penalties and label smoothing, {when}", "minimize"),
        metric(f"{split}/accuracy", part, f"accuracy, {when}", "maximize", style="percent"),
        metric(f"{split}/cross_entropy", f"{part} cross-entropy", f"nats per image, {when}", "minimize"),
    ]


METRICS = (
    *_split_metrics("train", "train", "running mean over the epoch"),
    *_split_metrics("val", "validation", "after the epoch"),
    Metric(
        "time/epoch_seconds", "seconds per epoch", "training and validation", "minimize", per_epoch=True, decimals=1
    ),
    Metric("stage", "stage", "1: head or whole model, 2: fine-tuning", per_epoch=True, decimals=0),
    *_split_metrics("test", "test", "with the selected weights"),
    Metric("best/val_accuracy", "best validation", "accuracy in the best epoch", "maximize", style="percent"),
    Metric("best/epoch", "best epoch", "the first epoch with the best validation accuracy", decimals=0),
    Metric(
        "eval/train_accuracy",
        "train, inference mode",
        "accuracy on the training images with the selected weights, without augmentation and dropout",
        "maximize",
        style="percent",
    ),
    Metric(
        "gap/accuracy",
        "running gap",
        "running training accuracy minus validation, points",
        "minimize",
        style="points",
    ),
    Metric(
        "gap/eval_accuracy",
        "gap",
        "train minus validation with the same weights, both in inference mode, points; a large gap is overfitting",
        "minimize",
        style="points",
    ),
    Metric("time/total_seconds", "seconds", "the whole run until its model is saved", "minimize", decimals=0),
    Metric("time/features_seconds", "features, seconds", "computing the cached activations, also on a cache hit"),
    Metric(
        "time/ms_per_image",
        "ms per image",
        "prediction, whole model, raw images",
        "minimize",
        needs_test=True,
        decimals=1,
    ),
    Metric(
        "memory/peak_rss_mb", "memory, GB", "peak of the training process, 10^9 bytes", "minimize", decimals=2, unit=1e3
    ),
    Metric("model/parameters", "parameters, millions", "of the saved model", "minimize", decimals=2, unit=1e6),
    Metric(
        "model/trainable_parameters",
        "trained, millions",
        "parameters that the last stage trains",
        "minimize",
        decimals=2,
        unit=1e6,
    ),
    Metric("model/macs", "multiply-adds, billions", "per image, forward", "minimize", decimals=3, unit=1e9),
    Metric("model/size_mb", "weights, MB", "10^6 bytes", "minimize", decimals=1),
)

BY_NAME = {metric.name: metric for metric in METRICS}
OBJECTIVES = {metric.name: metric.direction for metric in METRICS if metric.direction}
"""Every metric that can be an objective, with the direction in which it gets better."""


def is_per_epoch(name: str) -> bool:
    """Whether the metric `name` is logged at the end of each epoch, not once for the run."""
    return BY_NAME[name].per_epoch


def needs_test(name: str) -> bool:
    """Whether the metric `name` is measured by the test."""
    return BY_NAME[name].needs_test
