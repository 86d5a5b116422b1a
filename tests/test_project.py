"""What stands about the project in more than one file agrees: versions, targets, workflows, citation, lock."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from hatchling.builders.sdist import SdistBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import shortcut_snn

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_script_of_a_workflow_is_a_target(path):
    known = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    jobs = yaml.safe_load(path.read_text())["jobs"]
    scripts = [step["run"] for job in jobs.values() for step in job.get("steps", ()) if "run" in step]
    for script in scripts:
        make, *words = script.split()
        targets = {word for word in words if "=" not in word}
        assert make == "make", script
        assert targets, script
        assert targets <= known, script


def test_workflows_run_on_what_is_promised():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    promised = {line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if " 3." in line}
    assert set(matrix["python"]) == promised
    (torch,) = [Requirement(each) for each in PROJECT["dependencies"] if each.startswith("torch>")]
    (oldest,) = [each.version for each in torch.specifier]
    assert [each.split()[0] for each in matrix["torch"]] == [f"torch=={oldest}.*", "torch"]


def test_the_source_distribution_has_what_tests_and_lint_read():
    files = {Path(file.relative_path) for file in SdistBuilder(str(ROOT)).recurse_included_files()}
    assert {path.relative_to(ROOT) for path in WORKFLOWS} <= files
    assert Path(".github/dependabot.yml") in files


def test_only_publishing_may_write():
    """A workflow that a stranger's pull request can start reads; what may publish is a tag's or main's."""
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, path
        # YAML reads the key "on" as true.
        assert "pull_request_target" not in workflow[True], path
        for name, job in workflow["jobs"].items():
            assert "permissions" not in job or name in ("publish", "deploy"), path


def test_the_changelog_begins_with_this_version():
    newest = re.findall(r"^## \[(.+?)\](?: \((.+)\))?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    version = Version(shortcut_snn.__version__)
    assert newest == (("Unreleased", version.base_version) if version.is_devrelease else (str(version), ""))


def locked() -> dict[str, Version]:
    lines = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in lines}


def test_the_lock_is_that_of_the_ranges():
    versions, extras = locked(), PROJECT["optional-dependencies"]
    (names,) = re.findall(r"^EXTRAS := (.+)$", MAKEFILE, re.MULTILINE)
    ranges = [*PROJECT["dependencies"], *(line for name in names.split(",") for line in extras[name])]
    for line in ranges:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) != PROJECT["name"]:
            version = versions.get(canonicalize_name(requirement.name))
            assert version is not None, f"make lock: {requirement.name} is missing"
            assert version in requirement.specifier, f"make lock: {line}, but {version}"


def test_the_lock_is_for_every_machine():
    assert all(version.local is None for version in locked().values()), "a build for one kind of machine"
    text = (ROOT / "requirements.lock").read_text()
    assert len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) == len(
        re.findall(r"^[\w.-]+==.* \\\n    --hash=sha256:", text, re.MULTILINE)
    )


def test_the_notebook_has_the_code_of_the_quickstart():
    """The tests run docs/quickstart.md, and so the code of the notebook."""
    notebook = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    assert code == [block.strip("\n") for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]


def test_the_quickstart_tests_on_images_that_it_does_not_train_on():
    """A pair of data sets is training and test data, and the loops before it train on the first 1,500 images."""
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    (train, test) = re.findall(r"fit\(task, \((\w+), (\w+)\)", page)[0]
    (sets,) = re.findall(rf"^{train}, {test} = (.+)$", page, re.MULTILINE)
    assert re.findall(r"images\[(.+?)\]", sets) == [":200", "1500:"]
