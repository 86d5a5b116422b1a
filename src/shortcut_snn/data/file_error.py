"""An error about one file of a data set, whichever process meets it."""


class DataFileError(ValueError):
    """A file that cannot be used, named in one line.

    A loader's worker process hands errors on as a new error of the same class, its message the whole traceback:
    the last line of that is the message.
    """

    def __init__(self, message: str) -> None:
        name = f"{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(message.strip().splitlines()[-1].removeprefix(name))
