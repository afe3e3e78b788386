"""Errors the user can fix; printed as one line, without a traceback."""


def printable(text: str) -> str:
    """Return `text` with the bytes escaped that are not UTF-8, which Python keeps in the names of files."""
    try:
        return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    except UnicodeEncodeError:  # half a character, from elsewhere
        return text.encode(errors="backslashreplace").decode()


def is_text(text: str) -> bool:
    """Whether `text` can be written as UTF-8."""
    return printable(text) == text


class BeansExpError(Exception):
    """An error whose message names the key or file, the rule and the way out.

    Bytes of a file's name that are not UTF-8 are escaped: the message is also logged, and written to the store.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))


class ConfigError(BeansExpError):
    """A configuration that breaks a rule; raised before TensorFlow is imported."""


class DataError(BeansExpError):
    """A missing, damaged or incomplete data set."""


class StoreError(BeansExpError):
    """An MLflow store that cannot be reached, read or written."""


class StoreUnavailableError(StoreError):
    """A store that cannot be used at the moment: until it can, everything that is logged is kept on disk."""


class ServerUnreachableError(StoreUnavailableError):
    """A tracking server that is unreachable at the moment."""


class StorageError(BeansExpError):
    """A disk or a store that failed under a run, which keeps its checkpoint: the same command resumes it."""


class DivergedError(BeansExpError):
    """The training loss became NaN or infinite."""


class PrunedError(BeansExpError):
    """A trial that was stopped because others at the same epoch do better."""


class TooSlowError(PrunedError):
    """A trial that was stopped because its epochs exceed `trial_seconds`, whatever its values."""


def first_line(error: BaseException, length: int = 200) -> str:
    """Return the first line of an error's message, cut to `length` characters; its type if it has no message."""
    return (printable(str(error)).strip() or type(error).__name__).splitlines()[0][:length]
