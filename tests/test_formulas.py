"""Formulas of the documentation stand in it as MathML: a browser draws them without a script or a network."""

import re
from pathlib import Path

from latex2mathml.converter import convert

DOCS = Path(__file__).parents[1] / "docs"


def test_every_formula_becomes_mathml():
    found = 0
    for page in sorted(DOCS.glob("*.md")):
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for formula in re.findall(r"\$\$(.+?)\$\$|(?<!\$)\$([^$]+)\$(?!\$)", text, re.DOTALL):
            made = convert("".join(formula).strip())
            assert made.startswith("<math"), (page.name, formula)
            assert "\\" not in made, f"{page.name}: {formula} has a command that is not understood"
            found += 1
    assert found > 50
