"""The table of research/studies/spike_price.py."""

from research.studies import spike_price


def test_a_row_for_each_weight_with_the_means_over_its_seeds():
    result = {"test_last": {"accuracy": 0.5}, "firing_rate": 0.2, "energy_pj": 2000.0, "total_energy_pj": 3e6}
    runs = [
        {"weight": weight, "seed": seed, "result": result | {"firing_rate": rate, "seconds_per_step": 0.5}}
        for weight, seed, rate in ((0.0, 0, 0.2), (0.0, 1, 0.3), (4.0, 0, 0.1))
    ]
    rows = [spike_price.row_of(run, milliseconds=0.25) for run in runs]
    *_, first, second = spike_price.table(rows).strip().splitlines()
    assert [cell.strip() for cell in first.strip("|").split("|")] == [
        "0", "2", "50.00 ± 0.00", "0.250", "2 nJ", "3 µJ", "0.25", "0.5"
    ]  # fmt: skip
    assert [cell.strip() for cell in second.strip("|").split("|")][:4] == ["4", "1", "50.00", "0.100"]
