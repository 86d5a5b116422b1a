"""The package speaks plain technical English: no private phrases, and sentences of at most 30 words.

Docstrings and the texts of errors and messages are read; comments are left to the reviewer.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import shortcut_snn

ROOT = Path(shortcut_snn.__file__).parent
MOST_WORDS = 30
# Phrases that a native speaker has to decode, with the words to use in their place.
BANNED = {
    r"(?<![Tt]here )is no (?!longer|need|more)": "is not a",
    r"(?<![Tt]here )are no (?!longer|more)": "are not",
    r"puts? to rest|from rest|at rest": "reset, initial state",
    r"so many|so often": "N, N times",
    r"anew": "again",
    r"beside(?!s)": "alongside, next to",
    r"whoever|whosoever|somebody|nobody|a person|a person's": "the user, the caller",
    r"of ours|of others'?|of one's own": "built-in, third-party, custom",
    r"behind": "after",
    r"goe?s? on with|gone on with": "resume",
    r"whole numbers?": "integer",
    r"way back": "backward pass",
    r"what ships": "the deployed network",
    r"tells? (?:apart|of)": "distinguishes, shows",
    r"who (?:calls|goes|iterates)": "what calls",
    r"not told|was told|is told": "specified, inferred",
}
STARTS = re.compile(r"(?:What|Of|Who|Whose|Where|Whether|Whom)\b")


def texts(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield line, text and whether it is a docstring, of every docstring and every message of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            docstrings.add(node.body[0].value)
            yield node.body[0].lineno, text, True
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield node.lineno, node.value, False


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text without its examples, literal blocks, tables and code."""
    text = re.split(r"^\s*Examples?:", text, flags=re.MULTILINE)[0]
    text = re.sub(r"::\n\n(?:\s{4,}.*\n|\n)+|^\s*(?:\||>>>|\.\.|-{3}).*$", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"^={4,}.*?^={4,}[ =]*\n(.*?^={4,}[ =]*$)?", "\n\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r":\w+:`[^`]*`|`+[^`]*`+", "x", text)
    yield from re.split(r"[.:;!?)]+\s|\n\s*\n|\n\s*(?:[-*]|\d+\.) |\n\s+\w+: |\n``", text)


def faults(path: Path) -> Iterator[str]:
    """Yield what a reader of this file would stop at."""
    for line, text, docstring in texts(path):
        at = f"{path.relative_to(ROOT)}:{line}"
        for phrase, instead in BANNED.items():
            if match := re.search(rf"\b(?:{phrase})\b", text):
                yield f"{at}: {match[0]!r}; write: {instead}"
        if docstring and STARTS.match(text):
            yield f"{at}: begins with {text.split()[0]!r}; begin with what it is or does"
        for sentence in sentences(text):
            if (count := len(sentence.split())) > MOST_WORDS:
                yield f"{at}: a sentence of {count} words: {' '.join(sentence.split()[:8])} ..."


@pytest.mark.parametrize("package", sorted({path.relative_to(ROOT).parts[0] for path in ROOT.rglob("*.py")}))
def test_a_reader_need_not_stop(package):
    path = ROOT / package
    found = [fault for file in ([path] if path.is_file() else sorted(path.rglob("*.py"))) for fault in faults(file)]
    assert not found, "\n".join(found)
