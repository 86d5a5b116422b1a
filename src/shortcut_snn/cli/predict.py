"""``shortcut-snn predict``: classify images or event recordings with a trained network."""

import argparse
import json

from .._utils.markdown import markdown_table
from ..deploy import Inference, load, predict
from ..deploy.predict import Prediction
from ..energy.report import with_unit
from ..training import RunFolder
from ._terminal import print_on_stderr, usage_errors


def run(options: argparse.Namespace) -> int:
    """Predict and print the classes."""
    if options.imports:
        # Recipes load all that trains; prediction does not need it otherwise.
        from ..recipes import import_components

        with usage_errors():
            import_components(options.imports)
    network = _load(options.network)
    failed = []

    def report(message: str) -> None:
        failed.append(message)
        print_on_stderr(message)

    predictions = list(predict(network, options.inputs, options.top, report))
    if options.json:
        print(json.dumps([prediction.to_dict() for prediction in predictions], indent=2))
    elif predictions:
        print(_table(predictions))
    return 1 if failed else 0


def _load(name: str) -> Inference:
    try:
        return load(name)
    except ValueError as error:
        imports = RunFolder(name).imports()
        if not imports:
            raise
        from ..recipes.imports import missing_imports

        raise ValueError(f"{error}{missing_imports(imports)}") from None


def _table(predictions: list[Prediction]) -> str:
    cut = any(prediction.samples > 1 for prediction in predictions)
    rows = []
    for prediction in predictions:
        energies = [with_unit(energy) for energy in (prediction.energy_pj, prediction.total_energy_pj)]
        cost = [f"{prediction.spikes:,}", *energies]
        for rank, ((name, probability), votes) in enumerate(zip(prediction.top, prediction.votes, strict=True)):
            first, last = (prediction.file, cost) if rank == 0 else ("", ["", "", ""])
            vote = [f"{votes} of {prediction.samples}"] if cut else []
            rows.append([first, name, f"{100 * probability:.1f} %", *vote, *last])
    return markdown_table(
        ["file", "class", "probability", *(["votes"] if cut else []), "spikes", "energy", "with memory"], rows
    )
