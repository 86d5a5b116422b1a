"""Text for terminals, pages and Markdown: tables, and names from files without control characters."""

from collections.abc import Sequence


def printable(text: str) -> str:
    r"""Return a text from a file with escapes for all characters that are not printable.

    Such characters set a terminal's title, clear its screen, forge lines or reverse the order of letters.

    Example:
        >>> print(printable("cat\x1b[2J"))
        cat\x1b[2J
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown with aligned columns; cells are made :func:`printable`.

    Example:
        >>> print(markdown_table(["layer", "rate"], [["conv1", "0.12"]]))
        | layer | rate |
        | ----- | ---- |
        | conv1 | 0.12 |
    """
    columns, rows = list(map(printable, columns)), [list(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )
