"""Search for good values of a recipe's entries with Optuna (``pip install optuna``).

    python examples/optuna_sweep.py --config digits --epochs 10 --trials 40 --out runs/search

:func:`suggest` draws the entries; change it for your own. A trial is judged by the metric on validation data after its
last epoch. The same command continues a search that was stopped or killed, and the trial that was running resumes.
"""

import argparse
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from shortcut_snn import recipe_of, train
from shortcut_snn.training import NumericsError, RunFolder


def suggest(trial: Trial) -> dict[str, Any]:
    """Draw the entries of a trial's recipe."""
    return {
        "optimizer": {"lr": trial.suggest_float("lr", 1e-3, 0.1, log=True)},
        "neuron": {"decay": trial.suggest_float("decay", 0.25, 0.75, step=0.25)},
        "network": {"block": trial.suggest_categorical("block", ["basic", "sew"])},
    }


def open_study(folder: Path) -> optuna.Study:
    """Open the study of a folder, or create it. Trials that were interrupted are queued with their values."""
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.create_study(study_name="search", storage=storage, direction="maximize", load_if_exists=True)
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, {"folder": trial.user_attrs.get("folder")})
    return study


def folders(study: optuna.Study, *states: TrialState) -> set[str | None]:
    """Return the folders of the trials in some states."""
    return {trial.user_attrs.get("folder") for trial in study.get_trials(states=states)}


def main() -> None:
    """Search, and print the best values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="digits", help="a recipe, a preset or a YAML file")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of a trial")
    parser.add_argument("--trials", type=int, default=40, help="trials in all, with earlier ones")
    parser.add_argument("--out", type=Path, required=True, help="folder of the search")
    options = parser.parse_args()
    with RunFolder(options.out).locked():
        search(options)


def search(options: argparse.Namespace) -> None:
    """Search in a folder that no other process searches in."""
    study = open_study(options.out)

    def objective(trial: Trial) -> float:
        folder = trial.user_attrs.get("folder") or f"trial{trial.number:04d}"
        trial.set_user_attr("folder", folder)
        recipe = recipe_of(options.config, suggest(trial), {"training": {"epochs": options.epochs}})
        result = train(recipe, options.out / folder, resume=True)
        value = float(result["validation_last"][result["metric"]])
        return value if result["higher_is_better"] else -value

    ended = folders(study, TrialState.COMPLETE, TrialState.FAIL) - folders(study, TrialState.WAITING)
    # A loss that diverges speaks against the values; any other error ends the search.
    study.optimize(objective, n_trials=max(0, options.trials - len(ended)), catch=NumericsError)
    best = study.best_trial
    print(f"best: {best.value:.4g} with {best.params}; train it longer from {options.out / best.user_attrs['folder']}")


if __name__ == "__main__":
    main()
