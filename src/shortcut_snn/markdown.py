"""Tables in Markdown, for files and terminals."""

from collections.abc import Sequence


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown with aligned columns.

    Example:
        >>> print(markdown_table(["layer", "rate"], [["conv1", "0.12"]]))
        | layer | rate |
        | ----- | ---- |
        | conv1 | 0.12 |
    """
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )
