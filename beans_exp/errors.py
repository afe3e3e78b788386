"""What goes wrong in a way the user can mend: shown as one message, without a traceback."""


class BeansExpError(Exception):
    """A problem with a message that names the key or file, the rule and the way out."""


class ConfigError(BeansExpError):
    """A configuration that breaks a rule; raised before TensorFlow is imported."""


class DataError(BeansExpError):
    """A data set that is missing, damaged or incomplete."""


class StoreError(BeansExpError):
    """An MLflow store that cannot be reached, read or written."""


class ServerUnreachableError(StoreError):
    """A tracking server that does not answer now."""


class DivergedError(BeansExpError):
    """The training loss became NaN or infinite."""


class PrunedError(BeansExpError):
    """A trial of a search that was stopped because others of its age do better."""


class TooSlowError(PrunedError):
    """A trial of a search that was stopped because its epochs take longer than a trial may, whatever its values."""
