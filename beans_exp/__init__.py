"""Hydra-configured sweeps with experiment tracking for image classification on small data sets."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("beans-exp")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
