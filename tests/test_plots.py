"""Figures: their parts keep their colours, and show nothing that a run does not have."""

import numpy as np
import pytest

from shortcut_snn import plots
from shortcut_snn.energy import EnergyReport
from shortcut_snn.energy.report import LayerEnergy


@pytest.fixture
def figures(monkeypatch):
    """The figures that a test draws."""
    drawn = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: drawn.append(figure))
    return drawn


def rows(**values):
    return [{"epoch": epoch, "lr": 0.1} | values for epoch in (1, 2)]


def test_parts_of_the_data_keep_their_colours(figures, tmp_path):
    values = {"train_accuracy": 0.5, "validation_accuracy": 0.4, "train_main_loss": 1.0, "validation_loss": 2.0}
    plots.curves(rows(**values), tmp_path / "a.png", "accuracy", "accuracy, %", 100, chance=10)
    accuracy, loss, *_ = figures[0].axes
    colours = [
        {line.get_label(): line.get_color() for line in axes.lines if line.get_label() in ("training", "validation")}
        for axes in (accuracy, loss)
    ]
    assert colours[0] == colours[1]
    assert len(set(colours[0].values())) == 2


@pytest.mark.parametrize(("branch_weight", "shown"), [(0.0, False), (0.2, True)])
def test_lambda_is_shown_with_branches_alone(figures, tmp_path, branch_weight, shown):
    plots.curves(rows(train_loss=1.0, **{"lambda": branch_weight}), tmp_path / "a.png", "loss", "loss")
    assert any("lambda" in axes.get_title() for axes in figures[0].axes) == shown


def test_an_interval_of_accuracy_ends_where_accuracy_ends(figures, tmp_path):
    for limits in (None, (0, 100)):
        plots.comparison(["a"], [[20, 30]], [45.0], tmp_path / "a.png", "accuracy, %", limits=limits)
    (free,), (limited,) = (figure.axes for figure in figures)
    assert free.get_xlim()[0] < 0 <= limited.get_xlim()[0]


def test_names_with_dollars_are_no_formulas(figures, tmp_path):
    names = [r"$\foo$", "US$", "CA$"]
    plots.confusion(np.eye(3, dtype=int).tolist(), names, tmp_path / "a.png")
    plots.comparison(names, [[1.0]] * 3, [0.1] * 3, tmp_path / "b.png", "accuracy, %")
    plots.method_panels([plots.Panel("loss", "step", {name: [([1], [1.0])] for name in names})], tmp_path / "c.png")
    for figure in figures:
        figure.canvas.draw()
    shown = [label.get_text().replace(r"\$", "$") for label in figures[0].axes[0].get_yticklabels()]
    assert shown == names


def test_methods_are_named_above_the_panels(figures, tmp_path):
    curve = [([1, 2], [1.0, 2.0])]
    panels = [plots.Panel(str(number), "epoch", {"one": curve, "two": curve}) for number in range(7)]
    plots.method_panels(panels, tmp_path / "a.png")
    (figure,) = figures
    figure.canvas.draw()
    (legend,) = figure.legends
    assert legend.get_window_extent().y0 > max(axes.get_window_extent().y1 for axes in figure.axes)


@pytest.mark.parametrize(("synapses", "shown"), [(100.0, True), (1.0, False)])
def test_a_break_even_rate_is_drawn_where_there_is_one(figures, tmp_path, synapses, shown):
    numbers = dict.fromkeys(["acs", "relu_macs", "inputs", "relu_inputs", "spikes", "updates"], 10.0)
    layer = LayerEnergy(layer="a", macs=0.0, synapses=synapses, bits=2, **numbers)
    assert (layer.break_even_rate > 0) == shown
    plots.energy(EnergyReport((layer,)), tmp_path / "a.png")
    labels = figures[0].axes[0].get_legend_handles_labels()[1]
    assert ("break-even" in labels) == shown
