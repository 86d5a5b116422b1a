"""Hypothesis strategies: damaged bytes and values that do not belong where they are."""

from typing import Any

from hypothesis import strategies as st

ODD_VALUES = st.sampled_from(
    (None, True, -1, 0, 3, 2**70, 1e308, -1e-300, float("nan"), float("inf"), "", "text", "\x00", "é" * 10, [], [1, 2],
     {}, {"a": 1}, [[]], "[" * 50, "../../etc", "x" * 5000)
)  # fmt: skip
"""Values for an entry that expects another one."""


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, float, bytes]:
    """Return a kind of damage, where in a file it is (0 to 1), and the bytes that it writes."""
    kind = draw(st.sampled_from(("flip", "overwrite", "truncate", "append", "replace")))
    return kind, draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=64))


def damaged(content: bytes, damage: tuple[str, float, bytes]) -> bytes:
    """Return the content of a file after a damage.

    Example:
        >>> damaged(b"abcdef", ("truncate", 0.5, b"x")), damaged(b"abcdef", ("overwrite", 0.5, b"x"))
        (b'abc', b'abcxef')
    """
    kind, position, data = damage
    start = min(int(position * len(content)), max(len(content) - 1, 0))
    match kind:
        case "flip":
            return content[:start] + bytes(255 - byte for byte in content[start : start + 1]) + content[start + 1 :]
        case "overwrite":
            return content[:start] + data + content[start + len(data) :]
        case "truncate":
            return content[:start]
        case "append":
            return content + data
        case _:
            return data


@st.composite
def odd_json(draw: st.DrawFn, content: Any) -> Any:
    """Return JSON content with one value, at any depth, replaced by an odd one or removed."""
    if isinstance(content, dict) and content and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(content)))
        if draw(st.booleans()):
            return {name: value for name, value in content.items() if name != key}
        return content | {key: draw(odd_json(content[key]))}
    return draw(ODD_VALUES)
