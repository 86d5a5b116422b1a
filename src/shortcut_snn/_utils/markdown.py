"""Text for terminals, pages and Markdown: names from files without control characters, and tables."""

import re
from collections.abc import Sequence

# Control characters, separators of lines, marks that change the direction of text, and bytes that are not UTF-8.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, keep: str = "") -> str:
    r"""Return text with escapes for control characters not in ``keep``: they clear a terminal or forge its lines."""
    return _CONTROLS.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def shortened(text: str) -> str:
    """Return text whose words of over 400 characters are cut in the middle."""
    return re.sub(r"\S{401,}", lambda word: f"{word[0][:150]}...{word[0][-150:]}", text)


def escaped(text: str) -> str:
    r"""Return text that Markdown shows as it is: no name becomes a link, an image, HTML or emphasis."""
    return re.sub(r"[\\`*_\[\]<>|]|(?<=:)//|^[#+-](?= )", r"\\\g<0>", printable(text))


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown with aligned columns, control characters and bars in cells escaped, long words cut."""
    columns, *rows = [[shortened(printable(cell)).replace("|", r"\|") for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )
