"""The documentation speaks plain technical English: the phrases and sentence lengths that test_words.py allows."""

import re
from pathlib import Path

import pytest

from .test_words import BANNED, MOST_WORDS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def paragraphs(page: str) -> list[str]:
    """Return the prose of a page: no code, formulas, tables or headings, and links as their text."""
    page = re.sub(r"```.*?```|\$\$.*?\$\$", "\n\n", page, flags=re.DOTALL)
    page = re.sub(r"^(?:\||#).*$", "\n", page, flags=re.MULTILINE)
    page = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", page)
    page = re.sub(r"`[^`]*`|\$[^$]*\$", "x", page)
    return [" ".join(text.split()) for text in re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.) ", page, flags=re.MULTILINE)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_use_the_fields_words_and_short_sentences(path: Path) -> None:
    texts = paragraphs(path.read_text(encoding="utf-8"))
    banned = [
        (text, words) for text in texts for phrase, words in BANNED.items() if re.search(rf"\b(?:{phrase})\b", text)
    ]
    assert not banned
    sentences = [sentence for text in texts for sentence in re.split(r"(?<=[.;:?!])\s", text)]
    assert not [sentence for sentence in sentences if len(sentence.split()) > MOST_WORDS]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_are_short_and_their_prose_is_wrapped(path: Path) -> None:
    page, most_lines = path.read_text(encoding="utf-8"), 120 if path.name == "README.md" else 150
    assert len(page.splitlines()) <= most_lines
    if path.name != "README.md":  # of which code and tables are narrow too
        page = re.sub(r"```.*?```|^\|[^\n]*$", "", page, flags=re.DOTALL | re.MULTILINE)
    assert max(map(len, page.splitlines())) <= 120


def test_no_page_has_the_name_of_one_that_sphinx_writes() -> None:
    assert not {path.stem for path in PAGES} & {"search", "genindex", "py-modindex"}


def test_the_prose_of_a_page_is_read() -> None:
    page = "# Title\n\n- Nothing is [put to rest](page.md).\n\n```text\nput to rest\n```\n"
    assert "Nothing is put to rest." in paragraphs(page)
    assert sum("put to rest" in text for text in paragraphs(page)) == 1
