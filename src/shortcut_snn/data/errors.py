"""Errors about one file of a data set."""


class DataFileError(ValueError):
    """A file of a data set that cannot be used; the message is one line and names the file.

    A DataLoader's worker process raises errors again in the training process, with the traceback as the message. Only
    the last line of that message is kept.
    """

    def __init__(self, message: str) -> None:
        prefix = f"{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(message.strip().splitlines()[-1].removeprefix(prefix))


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
