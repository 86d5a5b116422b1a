"""Errors about one file of a data set, whichever process meets them."""


class DataFileError(ValueError):
    """A file that cannot be used, named in one line.

    A loader's worker process hands errors on as a new error of the same class, its message the whole traceback:
    the last line of that is the message.
    """

    def __init__(self, message: str) -> None:
        name = f"{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(message.strip().splitlines()[-1].removeprefix(name))


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
