"""From a configuration to its model: calls the function that `model` names, and checks what it returns."""

import importlib
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import layers

from beans_exp.data import source
from beans_exp.errors import BeansExpError, ConfigError, DataError, first_line
from beans_exp.files import user_path
from beans_exp.models.backbone import Base, with_head
from beans_exp.models.regularization import penalize
from beans_exp.models.weights import HINT
from beans_exp.schema import Config, ModelConfig
from beans_exp.schema.combinations import arguments
from beans_exp.schema.python_source import find_function


def build(config: Config, classes: int) -> keras.Model:
    """Return the model of `config`: images float32 (b, S, S, 3) in 0..255 to logits float32 (b, classes).

    The outputs of auxiliary classifiers are `auxiliary_outputs`, of the model or of its base.
    """
    model = _with_head(config, classes) if config.model.is_base else _classifier(config, classes)
    if config.model.build and config.tracking.save_model != "none":
        _require_savable(model, config)
    return model


def require_model(config: Config) -> None:
    """Raise ConfigError unless a user's own function returns a model that can be trained, before a run is recorded."""
    if config.model.build:
        build(config, classes=len(source(config.data).classes))
        keras.backend.clear_session()


def import_function(build: str) -> Callable[..., Any]:
    """Import the module of `build` and return its function; raises ConfigError for a module that raises."""
    module, _, name = build.rpartition(".")
    file, _ = find_function(build)
    try:
        loaded = importlib.import_module(module)
    except BeansExpError:
        raise
    except Exception as error:
        raise ConfigError(f"model.build={build}: {file} cannot be imported ({_cause(error, file)})") from error
    if Path(str(loaded.__file__)).resolve() != file.resolve():
        rule = f"in a module of another name: {module} was imported from {loaded.__file__}, not from {file}"
        raise ConfigError(f"model.build={build}: must be {rule}")
    return getattr(loaded, name)


def _cause(error: Exception, file: Path) -> str:
    """The error, and the last line of `file` that led to it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    where = f", line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {first_line(error)}{where}"


def _classifier(config: Config, classes: int) -> keras.Model:
    """A whole model of its function's own."""
    made = _functional(_call(config, classes), config)
    logits, *auxiliary = made.outputs
    if tuple(logits.shape) != (None, classes):
        rule = f"logits (b, {classes}), one for each class, as its first output, not {_shown(logits)}"
        raise _wrong(config.model, rule)
    if _is_softmax(logits._keras_history.operation):
        raise _wrong(config.model, "logits, not probabilities: leave out the softmax")
    if bool(auxiliary) != bool(config.reg.aux_weight):
        rule = "the logits of auxiliary classifiers as further outputs where aux_weight is above 0, and only there"
        raise _wrong(config.model, rule)
    penalize(made, config.reg)
    if logits.dtype != "float32":
        logits = layers.Activation("linear", dtype="float32", name="float32_logits")(logits)
    model = keras.Model(made.inputs[0], logits, name=config.model.name)
    model.auxiliary_outputs = auxiliary
    return model


def _with_head(config: Config, classes: int) -> keras.Model:
    """A head on the base that its function returns."""
    made = _call(config, None)
    base = made if isinstance(made, Base) else Base(made, lambda images: images)
    if not isinstance(base.network, keras.Model) or not _is_graph(base.network):
        raise _wrong(config.model, "a functional Keras model: a subclassed one cannot be cut into blocks")
    network = _functional(base.network, config)
    if len(network.outputs[0].shape) != 4:
        raise _wrong(config.model, f"features (b, h, w, c), without a pooling, not {_shown(network.outputs[0])}")
    if config.model.weights is not None and not config.model.signature.takes("weights"):
        _load(network, config.model)
    if not config.model.pretrained:
        penalize(network, config.reg)
    return with_head(Base(network, base.scaling), config, classes)


def _call(config: Config, classes: int | None) -> Any:
    """What the function of the model returns.

    Raises DataError for pre-trained weights that do not fit a shipped base, ConfigError for an error in the function.
    """
    model, given = config.model, arguments(config)
    if given.get("weights") not in (None, "imagenet"):
        given["weights"] = str(user_path(given["weights"]))
    if classes is not None:
        given["classes"] = classes
    function = import_function(model.signature.build)
    try:
        with warnings.catch_warnings():
            if model.build is None:
                warnings.simplefilter("error", UserWarning)  # Keras only warns about layers that are missing in a file
                warnings.filterwarnings(
                    "ignore", "`input_shape` is undefined"
                )  # a size other than its weights' is fine
            return function(image_size=config.data.image_size, **given)
    except BeansExpError:
        raise
    except Exception as error:
        if model.build is None and model.weights is not None:
            raise _misfit(model, error) from error
        file, _ = find_function(model.signature.build)
        raise ConfigError(f"model.build={model.signature.build}: it raised {_cause(error, file)}") from error


def _load(network: keras.Model, model: ModelConfig) -> None:
    """Load a weights file into a base whose function does not take it."""
    try:
        network.load_weights(user_path(str(model.weights)))
    except Exception as error:  # Keras raises many types for files that are damaged or of another network
        raise _misfit(model, error) from error


def _misfit(model: ModelConfig, error: Exception) -> DataError:
    return DataError(f"model.weights: {model.weights} does not fit model={model.name} ({first_line(error)}). {HINT}")


def _functional(made: Any, config: Config) -> keras.Model:
    """The graph of what the function returned; a subclassed model becomes one layer of a graph."""
    if not isinstance(made, keras.Model):
        raise _wrong(config.model, f"an uncompiled keras.Model, not {type(made).__name__}")
    size = config.data.image_size
    if not _is_graph(made):
        made = _wrapped(made, config)
    elif isinstance(made, keras.Sequential):
        made = keras.Model(made.inputs[0], made.outputs[0])
    shapes = [tuple(image.shape) for image in made.inputs]
    if shapes not in ([(None, size, size, 3)], [(None, None, None, 3)]):
        raise _wrong(config.model, f"one input (b, {size}, {size}, 3), raw images in 0..255, not {shapes}")
    return made


def _wrapped(made: keras.Model, config: Config) -> keras.Model:
    images = keras.Input((config.data.image_size, config.data.image_size, 3), name="image")
    try:
        return keras.Model(images, made(images))
    except Exception as error:
        raise _wrong(config.model, f"a model that takes a batch of images ({first_line(error)})") from error


def _is_graph(made: keras.Model) -> bool:
    return bool(getattr(made, "inputs", None))


def _is_softmax(operation: Any) -> bool:
    activation = getattr(operation, "activation", None)
    return isinstance(operation, layers.Softmax) or getattr(activation, "__name__", "") == "softmax"


def _require_savable(model: keras.Model, config: Config) -> None:
    """Refuse a class without its own `get_config` now, not when the trained model is saved."""
    try:
        model.get_config()
    except Exception as error:
        cause = f"{type(error).__name__}: {first_line(error)}"
        raise _wrong(config.model, f"a model that can be saved ({cause})") from error


def _shown(tensor: keras.KerasTensor) -> str:
    return f"({', '.join('b' if size is None else str(size) for size in tensor.shape)})"


def _wrong(model: ModelConfig, rule: str) -> ConfigError:
    return ConfigError(f"model.build={model.signature.build}: must return {rule}")
