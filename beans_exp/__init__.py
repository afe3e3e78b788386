"""Hydra-configured sweeps with experiment tracking for image classification on small data sets."""


def __getattr__(name: str) -> str:
    """Look `__version__` up when it is read: `importlib.metadata` takes a tenth of the time of `--cfg job`."""
    if name != "__version__":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("beans-exp")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"
