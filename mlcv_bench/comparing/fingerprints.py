"""Two files of fingerprints: does each network compute the same, and if not, in which respect?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlcv_bench.comparing.differences import RowDifference, fingerprint_difference, torch_of
from mlcv_bench.comparing.saved import RULES
from mlcv_bench.records import plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlcv_bench.comparing.saved import SavedResult

COMPUTES = "what it computes"
PARAMETERS = "parameters"
BY_NAME = ("weight gradients", "batch-norm statistics")
OTHER_TORCH = "the network draws random numbers, and the baseline's torch is {}"

Rows = dict[tuple[str, ...], "Mapping[str, Any]"]


def diagnoses(base: SavedResult, new: SavedResult) -> list[RowDifference]:
    """Say of every network that is not what it was whether it computes otherwise, or has other weights alone.

    A network that draws random numbers is compared under one version of torch alone.
    """
    before, after = _by_network(base), _by_network(new)
    found = [RowDifference(name, "row", "missing") for name in before if name not in after]
    for name in (name for name in before if name in after):
        told = _told(before[name], after[name], same_torch=torch_of(base) == torch_of(new))
        if told is not None:
            found.append(told)
    return found


def _by_network(saved: SavedResult) -> dict[str, Rows]:
    networks: dict[str, Rows] = {}
    keys = RULES["fingerprint"].keys[1:]
    for row in saved.runs:
        place = tuple(plain_text(row.get(key)) for key in keys)
        networks.setdefault(str(row.get("network")), {})[place] = row
    return networks


def _told(before: Rows, after: Rows, *, same_torch: bool) -> RowDifference | None:
    name = str(next(iter(before.values()))["network"])
    changed = []
    for place, row in before.items():
        other = after.get(place)
        if other is None:
            changed.append((row, RowDifference(name, "row", "missing", reason="is missing")))
        elif same_torch or not (row.get("random") or other.get("random")):
            found = fingerprint_difference(name, row, other)
            changed += [(row, found)] if found.change != "same" else []
    changed += [
        (row, RowDifference(name, "row", "added", reason="is new"))
        for place, row in after.items()
        if place not in before
    ]
    if not changed:
        return None
    drawn = [one for one in changed if one[0]["weights"] == "drawn"]
    own = [one for one in changed if one[0]["weights"] != "drawn"]
    results = [one for one in drawn if one[0]["quantity"] != PARAMETERS]
    own_results = [one for one in own if one[0]["quantity"] != PARAMETERS]
    (row, first), words = (results or own_results or changed)[0], ""
    if len(drawn) > len(results):
        # Gradients of other weights, and statistics under other names, are not those of one function.
        apart = [one for one in own_results if one[0]["quantity"] not in BY_NAME]
        same = "and computes otherwise" if apart else "with its own weights it computes the same"
        words = f"has other parameters, by name or shape; {same}"
    elif results:
        words = f"computes otherwise: {_where(row)} {first.reason}{_only(results)}"
    elif row["weights"] == "file":
        words = "has other weights in its file; with equal weights it computes the same"
    else:
        words = "has weights initialised otherwise; with equal weights it computes the same"
    return RowDifference(name, COMPUTES, "changed", first.base, first.new, reason=words)


def _where(row: Mapping[str, Any]) -> str:
    scale = row.get("scale")
    at = f" for inputs of scale {scale:g}" if scale is not None and scale != 1 else ""
    mode = {"train": " in training", "eval": " in evaluation"}.get(str(row.get("mode")), "")
    return f"its {row['quantity']}{mode}{at}"


def _only(results: list[tuple[Mapping[str, Any], RowDifference]]) -> str:
    """Say what nothing else than is changed."""
    modes = {row["mode"] for row, _ in results}
    scales = {row["scale"] for row, _ in results}
    if all("gradient" in row["quantity"] for row, _ in results):
        return "; its outputs are the same"
    if modes == {"train"}:
        return "; in evaluation it is the same"
    return "; at the other scales it is the same" if len(scales) == 1 and scales != {1.0} else ""
