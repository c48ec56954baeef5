"""Floor 3: pictures, one file per study."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from mlcv_bench.records import Report

FIGURES: Mapping[str, str] = {
    "basins": "basins:figure",
    "claims": "claims:figure",
    "cost": "costs:figure",
    "landscape": "loss_landscapes:figure",
    "lr-sweep": "sweeps:figure",
    "optim-race": "races:figure",
    "time": "timings:figure",
    "verify": "equivalences:figure",
}
"""Study to MODULE:FUNCTION of this folder, called with the report and the live record; None where there is nothing."""


def figure_of(report: Report, of: object = None) -> Figure | None:
    """Return the picture that a study's command draws, as matplotlib's figure; None where it draws none."""
    place = FIGURES.get(report.study)
    if place is None:
        return None
    module, _, function = place.partition(":")
    found: Figure | None = getattr(import_module(f"{__name__}.{module}"), function)(report, of)
    return found
