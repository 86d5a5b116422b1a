"""What finished runs were trained with that is other by now: files of a person's own, and data."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from ..training import RunFolder


def changed_since(
    places: Iterable[RunFolder], imported: Sequence[dict[str, Any]], again: str = "remove their folders"
) -> list[str]:
    """Return a sentence for each file that is no longer what finished runs imported, and for data that differ.

    Args:
        places: of the runs; those that have not finished say nothing.
        imported: what is imported now, as :func:`..recipes.imports.import_components` returned it.
        again: what a person does to have them trained again.

    Example:
        >>> changed_since([RunFolder("none")], [])
        []
    """
    finished = sorted(
        (place for place in places if place.is_finished), key=lambda place: place.result.stat().st_mtime_ns
    )
    lines = []
    other = {place: place.changed_imports(imported) for place in finished}
    for name in dict.fromkeys(name for names in other.values() for name in names):
        those = [place for place, names in other.items() if name in names]
        were = "were" if len(those) > 1 else "was"
        lines.append(
            f"{name} is no longer the file that {_runs(those)} {were} trained with, whose figures stand as they are: "
            f"to train with it as it is now, {again}"
        )
    contents: dict[str, dict[str, list[RunFolder]]] = {}
    for place in finished:
        if found := place.fingerprint().get("contents"):
            entries = place.read_entries()
            # A seed may split the data in a way of its own.
            alike = json.dumps(
                [entries.get("data"), entries.get("training", {}).get("seed")], sort_keys=True, default=str
            )
            contents.setdefault(alike, {}).setdefault(found, []).append(place)
    for groups in contents.values():
        # The fewest were most likely not meant, of as many the oldest.
        for those in sorted(groups.values(), key=len)[:-1]:
            lines.append(
                f"the data of {_runs(those)} were others than those of other runs with the same data.* and seed: what "
                f"the table sets against one another is not the same problem; to train again, {again}"
            )
    return lines


def _runs(places: Sequence[RunFolder]) -> str:
    shown = ", ".join(map(str, places[:3])) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
    return f"{len(places)} finished run{'s' * (len(places) > 1)} ({shown})"
