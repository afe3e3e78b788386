"""Classes of the user's own that saved models may be built of, from the folder of the command line alone."""

import sys
from contextlib import suppress
from pathlib import Path

import keras
import yaml

from beans_exp.errors import ConfigError
from beans_exp.models.build import import_function
from beans_exp.schema.python_source import user_folder


def user_classes() -> dict[str, type]:
    """Return the layers and models, by name, of the modules that `model/*.yaml` in the `--config-dir` name.

    No file of a saved model decides what is imported.
    """
    folder = user_folder()
    for file in sorted((folder / "model").glob("*.yaml")) if folder else ():
        with suppress(ConfigError, yaml.YAMLError, OSError):  # another model of the folder may be unfinished
            described = yaml.safe_load(file.read_text())
            if isinstance(described, dict) and described.get("build"):
                import_function(str(described["build"]))
    modules = [module for module in list(sys.modules.values()) if folder and _is_in(folder, module)]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return {each.__name__: each for each in found if issubclass(each, keras.layers.Layer)}


def _is_in(folder: Path, module: object) -> bool:
    file = getattr(module, "__file__", None)
    return bool(file) and Path(str(file)).is_relative_to(folder)
