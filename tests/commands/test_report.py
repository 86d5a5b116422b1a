"""The pages: nothing in them points outside, and a browser shows them."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from shortcut_snn.cli import main
from shortcut_snn.training.compare import Plan, summarise
from shortcut_snn.training.recipe import Recipe

from .small import train

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome"))), None
)
SETTINGS = {"train__epochs": 2, "neuron__surrogate__calibrate": "true"}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """Two methods, a seed each, as ``compare`` leaves them."""
    folder = tmp_path_factory.mktemp("pages") / "comparison"
    for name in ("vanilla", "evolutionary"):
        assert train(folder / name / "seed0", **SETTINGS, method__name=name) == 0
    summarise(Plan.parse(Recipe(), "vanilla,evolutionary", 1), folder, tell=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def pages(comparison):
    """The page of a run and the one of the comparison."""
    run = comparison / "evolutionary" / "seed0"
    for folder in (run, comparison):
        assert main(["report", str(folder)]) == 0
    return {"run": run / "report.html", "comparison": comparison / "report.html"}


class Outline(HTMLParser):
    """What a page would fetch, and whether its tags match."""

    VOID = frozenset({"meta", "link", "br", "img", "path", "use", "rect", "stop"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.look(attributes)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.look(attributes)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, text):
        self.fetched(text if self.open and self.open[-1] == "style" else "")

    def look(self, attributes):
        for name, value in attributes:
            assert not name.startswith("on"), "a script"
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                self.outside += [] if (value or "").startswith("#") else [value]
            self.fetched(value or "") if not name.startswith("xmlns") else None

    def fetched(self, text):
        self.outside += re.findall(r"url\((?!#)[^)]*\)|@import[^;]*|https?://\S+", text)


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_a_page_refers_to_nothing_outside(pages, kind):
    outline = Outline()
    outline.feed(pages[kind].read_text())
    assert outline.outside == []
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(outline.tags)
    assert outline.tags.count("svg") >= 6
    assert outline.open == []


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_names_within_pictures_are_unique_and_there(pages, kind):
    text = pages[kind].read_text()
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))
    wanted = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert wanted
    assert wanted <= set(names)


def test_what_the_page_of_a_run_says(pages):
    text = pages["run"].read_text()
    result = json.loads((pages["run"].parent / "result.json").read_text())
    assert f"{100 * result['test_accuracy_last']:.2f} %" in text
    for said in ("Energy", "Calibrated surrogate widths", "Recipe", "Environment", "neuron.surrogate.calibrate"):
        assert said in text
    for layer in ("stem.conv", "layer3.2.spike2", "layer1.0.spike1"):
        assert f"<td>{layer}</td>" in text or f">{layer}</th>" in text


def test_what_the_page_of_a_comparison_says(pages):
    text = pages["comparison"].read_text()
    assert "method.name" in text
    assert "<td>vanilla</td>" in text
    assert "accuracy on validation data" in text
    assert "energy of an input" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; the page's references are checked all the same")
@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_a_browser_shows_it_without_a_network(pages, kind, tmp_path):
    picture = tmp_path / "page.png"
    page = pages[kind].as_uri()
    asked = browse(tmp_path, page, f"--screenshot={picture}", "--window-size=1200,3000")
    assert asked == set()
    assert picture.stat().st_size > 50_000
    shown = tmp_path / "dom.html"
    browse(tmp_path, page, "--dump-dom", output=shown)
    assert shown.read_text().count("<svg") == pages[kind].read_text().count("<svg")
    # The browser would have said so.
    (tmp_path / "control.html").write_text('<!DOCTYPE html><img src="http://127.0.0.1:9/x.png">')
    assert browse(tmp_path, (tmp_path / "control.html").as_uri(), "--dump-dom") == {"http://127.0.0.1:9/x.png"}


def browse(folder: Path, page: str, *options: str, output: Path | None = None) -> set[str]:
    """Open a page and return what it asked a network for; the browser's own business is not the page's."""
    log = folder / "net.json"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    done = subprocess.run(
        [*command, f"--log-net-log={log}", *options, page], capture_output=True, text=True, timeout=120, check=True
    )
    if output:
        output.write_text(done.stdout)
    asked = set(re.findall(r'"url":"(https?://[^"]+)"', log.read_text()))
    return {url for url in asked if not re.match(r"https?://[^/]*(google|gvt)[^/]*/", url)}


def test_names_that_look_like_html_are_text(comparison, tmp_path, capsys):
    run = tmp_path / "<script>alert(1)<"
    shutil.copytree(comparison / "vanilla" / "seed0", run)
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert "<script" not in (tmp_path / "page.html").read_text()


def test_an_unfinished_run_and_an_old_one(comparison, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(comparison / "vanilla" / "seed0", run)
    for name in ("result.json", "layers.csv", "energy.csv", "environment.json", "surrogates.json"):
        (run / name).unlink()
    assert main(["report", str(run)]) == 0
    assert "not finished: 2 epochs so far" in (run / "report.html").read_text()


def damaged(run: Path) -> str:
    (run / "result.json").write_text("{")
    return "result.json is damaged"


def empty(run: Path) -> str:
    shutil.rmtree(run)
    run.mkdir()
    return "holds neither a run"


def young(run: Path) -> str:
    (run / "metrics.csv").unlink()
    return "has not finished an epoch yet"


def binary(run: Path) -> str:
    (run / "layers.csv").write_bytes(bytes(range(256)))
    return "layers.csv is damaged"


@pytest.mark.parametrize("harm", [damaged, empty, young, binary])
def test_mistakes(comparison, tmp_path, capsys, harm):
    run = tmp_path / "run"
    shutil.copytree(comparison / "vanilla" / "seed0", run)
    said = harm(run)
    assert main(["report", str(run)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert not (run / "report.html").exists()
