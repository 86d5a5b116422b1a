"""The documentation's code blocks are tests."""

from pathlib import Path

from tests.pages import pages

pytest_collect_file = pages(Path(__file__).parent).pytest()
