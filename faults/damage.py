"""Ways in which a file goes bad."""

import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 3, 2**70, 1e308, -1e-300, float("nan"), float("inf"), "", "text", "\x00", "é" * 10, [], [1, 2],
    {}, {"a": 1}, [[]], "[" * 50, "../../etc", "x" * 5000,
)  # fmt: skip
"""Values that stand where they should not."""


def damaged(chance: random.Random, content: bytes) -> tuple[str, bytes]:
    """Return how, and the bytes of a file that somebody, or the disk, has damaged."""
    way = chance.choice(("bits", "bits", "block", "cut", "cut", "empty", "zeros", "noise", "longer", "doubled", "text"))
    found, size = bytearray(content), max(len(content), 1)
    if way == "bits" and content:
        for _ in range(chance.choice((1, 3, 20))):
            found[chance.randrange(size)] ^= 1 << chance.randrange(8)
    elif way == "block":
        start = chance.randrange(size)
        found[start : start + 64] = chance.randbytes(min(64, size - start))
    elif way == "cut":
        del found[chance.randrange(size) :]
    elif way == "empty":
        found.clear()
    elif way == "zeros":
        found = bytearray(size)
    elif way == "noise":
        found = bytearray(chance.randbytes(min(size, 10_000)))
    elif way == "longer":
        found += chance.randbytes(100)
    elif way == "doubled":
        found += content
    elif way == "text":
        found = bytearray(
            chance.choice((b"null", b"[]", b"{}", b"3", b'"a"', b"hello\nworld\n", b"[" * 100_000, b"a: b: c"))
        )
    return way, bytes(found)


def odd_json(chance: random.Random, text: str) -> tuple[str, str]:
    """Return how, and JSON one of whose values, at any depth, is missing or another."""
    content = json.loads(text)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            places.append((value, key))
            walk(value[key])

    walk(content)
    owner, key = chance.choice(places)
    if chance.random() < 0.4:
        del owner[key]
        return f"without {key}", json.dumps(content)
    value = chance.choice(ODD)
    owner[key] = value
    return f"{key} = {value!r:.20}", json.dumps(content)


def odd_csv(chance: random.Random, text: str) -> tuple[str, str]:
    """Return how, and a table in which a column or a cell is missing or another."""
    rows = [line.split(",") for line in text.splitlines()]
    row, column = chance.randrange(len(rows)), chance.randrange(len(rows[0]))
    way = chance.choice(("column", "cell", "cell", "name", "row", "short", "huge"))
    if way == "column":
        rows = [[cell for place, cell in enumerate(each) if place != column] for each in rows]
    elif way == "cell":
        rows[row][column] = chance.choice(("", "text", "nan", "inf", "-1", "1e999", "é", '"', "=1+1", "<script>"))
    elif way == "name":
        rows[0][column] = chance.choice(("", "other", rows[0][0]))
    elif way == "row":
        del rows[row]
    elif way == "short":
        del rows[row][column:]
    else:
        rows[row][column] = "1" * 200_000
    return way, "\n".join(map(",".join, rows)) + "\n"
