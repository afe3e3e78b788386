"""Rules across groups: combinations that cannot run, and options that have no effect beside the others.

An option without effect is an error in a single run (`check`). In a grid or a search such options are dropped from the
point (`reduce`), so that equal points run once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from beans_exp.errors import ConfigError
from beans_exp.metrics import needs_test
from beans_exp.schema.groups import (
    Config,
    ConfirmConfig,
    DataConfig,
    FeaturesConfig,
    FinetuneConfig,
    KernelConfig,
    ModelConfig,
    RegConfig,
    SweepConfig,
    TrainerConfig,
)
from beans_exp.schema.names import FILES
from beans_exp.schema.rules import broken, shown
from beans_exp.schema.signature import MAPPED, smallest_image

ABSENT = object()
"""The neutral value of a key that a model does not have."""
FROM_SCRATCH = "a model with random weights is trained whole, in one stage"


@dataclass(frozen=True)
class Inert:
    """An option without effect: `key` has `value` where only `neutral` makes sense, for `reason`."""

    key: str
    value: Any
    neutral: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.key}={shown(self.value)} has no effect: {self.reason}"

    @property
    def way_out(self) -> str:
        """The override that takes the option back."""
        return f"~{self.key}" if self.neutral is ABSENT else f"{self.key}={shown(self.neutral)}"


def check(config: Config) -> Config:
    """Return `config` if it is valid for a single run; else raise ConfigError, naming both sides."""
    if config.tracking.save_model == "best":
        raise broken("tracking.save_model", "best", "all or none in a single run: best compares the runs of a sweep")
    if config.plan:
        raise broken("plan", True, "false in a single run: it previews the jobs of a grid (-m)")
    if replace(config.sweep, fingerprint=None) != SweepConfig():
        raise ConfigError("sweep.* is set by the sweeper, not by hand. Leave it out")
    _require_depth(config)
    for inert in inert_options(config):
        raise ConfigError(f"{inert}. Leave it out{'' if inert.neutral is ABSENT else f', or write {inert.way_out}'}")
    require_runnable(config)
    return config


def _require_depth(config: Config) -> None:
    deepest = _deepest(config.model)
    if config.model.pretrained and deepest is not None and config.finetune.blocks > deepest:
        where = f"model.top_block={config.model.top_block} (the stem counts as the last block)"
        raise broken("finetune.blocks", config.finetune.blocks, f"between 0 and {deepest} with {where}")


def reduce(config: Config) -> tuple[Config, list[Inert]]:
    """Return `config` without the options that have no effect, and those options.

    Raises ConfigError if the rest cannot be run.
    """
    dropped: list[Inert] = []
    while found := list(inert_options(config)):
        dropped += found
        for inert in found:
            config = _with_value(config, inert.key, inert.neutral)
    require_runnable(config)
    return config, dropped


def require_runnable(config: Config) -> None:
    """Raise ConfigError where the groups contradict one another."""
    size = config.data.image_size
    smallest, what_for = _smallest_image(config)
    if size < smallest:
        raise broken("data.image_size", size, f"{smallest} or more for {what_for}")
    if config.trainer.epochs == 0 and config.finetune.blocks == 0:
        raise broken(
            "trainer.epochs", 0, "1 or more: no second stage follows (0 skips the first stage, before finetune)"
        )
    for metric in config.objective.metrics:
        if needs_test(metric) and not config.trainer.test:
            raise broken("objective.name", metric, "a metric that this run measures: trainer.test=false skips the test")


def inert_options(config: Config) -> Iterator[Inert]:
    """Yield the options that have no effect beside the others, with the reason."""
    yield from _inert_model(config)
    yield from _inert_kernel(config)
    yield from _inert_finetune(config)
    yield from _inert_reg(config)
    yield from _inert_data(config)
    yield from _inert_outside(config)
    yield from _inert_tracking(config)


def _inert_model(config: Config) -> Iterator[Inert]:
    model = config.model
    if not model.is_base:
        reason = f"model={model.name} has no pre-trained base"
        given = {"model.top_block": model.top_block}
        if not model.signature.takes("weights"):
            given["model.weights"] = model.weights
        yield from (Inert(key, value, None, reason) for key, value in given.items() if value is not None)
    if model.arch is not None and not model.is_application:
        yield Inert("model.arch", model.arch, None, f"model={model.name} is no architecture of keras.applications")
    known = {parameter.name for parameter in model.signature.options}
    for option, value in model.options.items():
        if option not in known:
            reason = f"model={model.name} {model.signature.why_unknown(option)}"
            yield Inert(f"model.options.{option}", value, ABSENT, reason)


def _inert_kernel(config: Config) -> Iterator[Inert]:
    signature, neutral = config.model.signature, KernelConfig()
    taken = [key for key, name in MAPPED.items() if key.startswith("kernel.") and signature.takes(name)]
    for key, name in MAPPED.items():
        if key.startswith("kernel.") and key not in taken:
            applies = f"only {', '.join(taken)} applies" if taken else "it has the kernels of its architecture"
            reason = f"model={config.model.name} does not take {name} ({applies})"
            yield from _set_keys("kernel", config.kernel, neutral, (key.removeprefix("kernel."),), reason)


def _inert_finetune(config: Config) -> Iterator[Inert]:
    every = ("blocks", "epochs", "learning_rate", "schedule")
    model, finetune, neutral = config.model, config.finetune, FinetuneConfig()
    if not model.is_base:
        reason = f"only a model with a pre-trained base has a second stage (model={model.name} has one stage)"
        yield from _set_keys("finetune", finetune, neutral, every, reason)
    elif not model.pretrained:
        yield from _set_keys("finetune", finetune, neutral, every, f"model.weights=null: {FROM_SCRATCH}")
    elif finetune.blocks == 0:
        reason = "finetune.blocks=0 skips the second stage"
        yield from _set_keys("finetune", finetune, neutral, every[1:], reason)
    elif (deepest := _deepest(model)) is not None and finetune.blocks > deepest:
        reason = f"model.top_block={model.top_block} leaves {deepest} blocks, counting the stem"
        yield Inert("finetune.blocks", finetune.blocks, deepest, reason)


def _inert_reg(config: Config) -> Iterator[Inert]:
    model, reg = config.model, config.reg
    usual = model.signature.parameters.get("dropout")
    if reg.dropout and not model.is_base and usual is None:
        yield Inert("reg.dropout", reg.dropout, 0.0, f"model={model.name} does not take dropout")
    if reg.dropout and usual is not None and reg.dropout == usual.default:
        yield Inert("reg.dropout", reg.dropout, 0.0, f"it is the default rate of model={model.name}")
    if reg.aux_weight and (reason := _why_no_aux(config)):
        yield Inert("reg.aux_weight", reg.aux_weight, RegConfig().aux_weight, reason)


def _why_no_aux(config: Config) -> str:
    model, blocks = config.model, config.finetune.blocks
    if not model.signature.takes("aux_weight"):
        return f"model={model.name} has no auxiliary classifiers"
    tap = model.signature.fact("aux_weight")
    if tap is None or tap not in model.blocks:
        return "" if blocks or not model.pretrained else "a frozen base trains nothing below its auxiliary classifiers"
    place, top = model.blocks.index(tap), model.blocks.index(str(model.top_block))
    if top < place:
        return f"model.top_block={model.top_block} is below {tap}, where the auxiliary classifier sits"
    if model.pretrained and top - blocks + 1 > place:
        needed = top - place + 1
        return f"finetune.blocks={blocks} trains nothing at or below {tap} (at least {needed} blocks are needed)"
    return ""


def _inert_data(config: Config) -> Iterator[Inert]:
    data, neutral = config.data, DataConfig()
    chosen = f"data={data.name}"
    if data.name != "synthetic":
        keys: tuple[str, ...] = ("train_images", "validation_images", "test_images", "draw_seed")
        yield from _set_keys("data", data, neutral, keys, f"{chosen} reads existing images")
    else:
        yield from _set_keys("data", data, neutral, ("data_dir",), f"{chosen} draws its images")
        yield from _set_keys("data", data, neutral, ("resize", "fit"), f"{chosen} draws squares of data.image_size")
    if data.name != "table":
        keys = ("file", "path_column", "label_column", "split_column", "group")
        yield from _set_keys("data", data, neutral, keys, f"{chosen} is no table of files (data=table)")
    else:
        yield from _set_keys("data", data, neutral, ("data_dir",), "the paths of data.file are relative to its folder")
    if data.name != "tfds":
        yield from _set_keys("data", data, neutral, ("dataset",), "only data=tfds reads it")
    if data.name in ("beans", "synthetic"):
        yield from _set_keys("data", data, neutral, ("split", "split_seed"), f"{chosen} has its own splits")
    elif isinstance(data.split, str):
        yield from _set_keys("data", data, neutral, ("split_seed",), "data.split names a file of splits")
    if data.name not in FILES:
        yield from _set_keys("data", data, neutral, ("on_error",), f"{chosen} reads no image files")
        if data.name != "tfds" and data.fit != "pad":
            reason = f"the images of {chosen} are opaque, and data.fit={data.fit} pads none"
            yield from _set_keys("data", data, neutral, ("background",), reason)


def _inert_outside(config: Config) -> Iterator[Inert]:
    finetune_epochs = config.finetune.epochs if config.finetune.blocks else 0
    if not config.model.pretrained:
        reason = f"model={config.model.name} has no frozen layers to cache"
        if config.model.is_base:
            reason = f"model.weights=null: {FROM_SCRATCH}"
        keys = ("cache", "dir", "max_gb", "blocks")
        yield from _set_keys("features", config.features, FeaturesConfig(), keys, reason)
    elif config.features.cache == "off":
        yield from _set_keys("features", config.features, FeaturesConfig(), ("dir", "max_gb"), "features.cache=off")
    if config.trainer.epochs == 0:
        reason = "trainer.epochs=0 skips the first stage (finetune.learning_rate applies)"
        yield from _set_keys("trainer", config.trainer, TrainerConfig(), ("learning_rate",), reason)
    if config.trainer.patience is not None and config.trainer.patience >= max(config.trainer.epochs, finetune_epochs):
        reason = "no stage has more epochs"
        yield Inert("trainer.patience", config.trainer.patience, None, reason)
    no_search = "only a search confirms its winners (hydra/sweeper=optuna)"
    yield from _set_keys("confirm", config.confirm, ConfirmConfig(), ("top", "seeds"), no_search)
    if config.trainer.microbatch == config.trainer.batch_size:
        yield Inert("trainer.microbatch", config.trainer.microbatch, None, "it equals trainer.batch_size")


def _inert_tracking(config: Config) -> Iterator[Inert]:
    if config.tracking.save_model == "best" and isinstance(config.objective.name, list):
        yield Inert("tracking.save_model", "best", "all", "with several objectives no single model is best")
    if config.tracking.offline and not (config.tracking.uri or "").startswith(("http://", "https://")):
        yield Inert("tracking.offline", True, False, "tracking.uri is not the address of a server")


def _set_keys(group: str, has: object, neutral: object, keys: tuple[str, ...], reason: str) -> Iterator[Inert]:
    for key in keys:
        if getattr(has, key) != getattr(neutral, key):
            yield Inert(f"{group}.{key}", getattr(has, key), getattr(neutral, key), reason)


def _with_value(config: Config, key: str, value: Any) -> Config:
    group, name = key.split(".", 1)
    if value is ABSENT:
        option = name.removeprefix("options.")
        name, value = "options", {key: kept for key, kept in config.model.options.items() if key != option}
    changed = replace(getattr(config, group), **{name: value})
    return replace(config, **{group: changed})


def _deepest(model: ModelConfig) -> int | None:
    """The number of blocks up to the top one, and the stem; None where only the graph can tell."""
    return model.blocks.index(str(model.top_block)) + 2 if model.blocks else None


def arguments(config: Config) -> dict[str, Any]:
    """Return what the function of `config.model` is called with, without `image_size` and `classes`.

    A dropout of 0 leaves the function's own rate.
    """
    model, signature = config.model, config.model.signature
    found = {name: _value(config, key) for key, name in MAPPED.items() if signature.takes(name)}
    if not config.reg.dropout:
        found.pop("dropout", None)
    found |= {name: getattr(model, name) for name in ("weights", "arch") if signature.takes(name)}
    return found | model.options


def _value(config: Config, key: str) -> Any:
    group, name = key.split(".")
    return getattr(getattr(config, group), name)


def _smallest_image(config: Config) -> tuple[int, str]:
    """The smallest image that leaves one pixel after all convolutions and poolings, and the reason."""
    values = arguments(config)
    pixels, names = smallest_image(config.model.signature, values)
    if config.model.is_application:
        pixels = config.model.facts["smallest_image"]
    keys = {name: f"model.options.{name}" for name in values} | {name: key for key, name in MAPPED.items()}
    beside = [f"{keys[name]}={shown(values[name])}" for name in names if values.get(name)]
    return pixels, " and ".join([f"model={config.model.name}", *beside])
