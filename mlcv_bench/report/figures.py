"""The figures of the notes' first chapter, each drawn from runs made on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcv_bench.errors import UsageError
from mlcv_bench.records import Report, Table
from mlcv_bench.surface_race.metrics import RaceResult
from mlcv_bench.surface_race.race import Race, race
from mlcv_bench.surface_race.summary import COLUMNS, ONE_START, known, run_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.surfaces.surface import Point


@dataclass(frozen=True)
class Panel:
    """One surface of a figure, and what runs on it."""

    surface: str
    optimizers: tuple[str, ...]
    steps: int
    start: Point | None = None
    settings: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Figure:
    """A figure of the notes: its caption there, and the runs that show it."""

    number: str
    caption: str
    panels: tuple[Panel, ...]


_SPHERE = Panel("sphere", ("sgd:lr=0.02", "momentum:lr=0.02"), 150)
_CANYON = Panel("canyon:condition=25", ("sgd:lr=0.02", "momentum:lr=0.02"), 150)
_BOTH_MOMENTA = ("sgd:lr=0.02", "momentum:lr=0.02", "nesterov:lr=0.02")
_ADAPTIVE = ("sgd:lr=0.02", "adagrad:lr=0.1", "rmsprop:lr=0.02", "adam:lr=0.02")


def _regression(optimizers: tuple[str, ...]) -> Panel:
    """Return a panel of mini-batches of 8: the noise of SGD is real there."""
    return Panel("regression", optimizers, 600, settings=(("batch_size", 8),))


FIGURES: dict[str, Figure] = {
    figure.number: figure
    for figure in (
        Figure("1.1", "Plain SGD vs momentum SGD in a sphere and a canyon", (_SPHERE, _CANYON)),
        Figure(
            "1.2",
            "Visualization of the step in Nesterov momentum",
            (Panel("canyon:condition=4", ("momentum:lr=0.15",), 3, start=(3.0, 1.6)),),
        ),
        Figure(
            "1.3",
            "Plain SGD vs standard momentum vs Nesterov momentum",
            (Panel("canyon:condition=25", _BOTH_MOMENTA, 150),),
        ),
        Figure(
            "1.4",
            "Loss where w1 has a larger gradient, while w2 has a smaller gradient",
            (Panel("canyon:condition=10", (), 1),),
        ),
        Figure("1.5", "SGD vs AdaGrad", (_regression(_ADAPTIVE[:2]),)),
        Figure("1.6", "SGD vs AdaGrad vs RMSProp", (_regression(_ADAPTIVE[:3]),)),
        Figure("1.7", "SGD vs AdaGrad vs RMSProp vs Adam", (_regression(_ADAPTIVE),)),
    )
}
"""Every figure of chapter 1 that needs surfaces only; 1.8 trains on real images."""


@dataclass(frozen=True)
class Drawn:
    """A figure with the races that were run for it."""

    figure: Figure
    races: tuple[Race, ...]

    def report(self) -> Report:
        """Return the runs behind the figure."""
        rows = [result_row(result) for found in self.races for result in found.results]
        columns = [column for column in ONE_START if column.key != "protocol" and known(column.key, rows)]
        tables = [
            Table(
                f"Figure {self.figure.number}: {found.surface.name}, {found.surface.formula}, {found.steps} steps",
                columns,
                [result_row(result) for result in found.results],
            )
            for found in self.races
            if found.results
        ]
        runs = [run_row(result) for found in self.races for result in found.results]
        notes = [] if tables else [f"Figure {self.figure.number}: {self.figure.caption}; give -o figure.png to draw it"]
        return Report("figures", COLUMNS, runs, tables, notes, details={"figure": self.figure.number})


def result_row(result: RaceResult) -> dict[str, Any]:
    """Return one run for the printed table."""
    row = run_row(result)
    row["outcome"] = result.outcome.replace("_", " ")
    return row


def find(number: str) -> Figure:
    """Return a figure by its number.

    Raises:
        UsageError: the notes' chapter 1 has no such figure.

    """
    if number not in FIGURES:
        msg = f"there is no figure {number}; choose from {', '.join(FIGURES)}"
        raise UsageError(msg)
    return FIGURES[number]


def run(number: str, *, seed: int = 0) -> Drawn:
    """Run what a figure shows."""
    figure = find(number)
    return Drawn(figure, tuple(_race(panel, seed) for panel in figure.panels))


def _race(panel: Panel, seed: int) -> Race:
    return race(
        panel.surface,
        panel.optimizers,
        steps=panel.steps,
        start=panel.start,
        seed=seed,
        protocols=("default",),
        **dict(panel.settings),
    )


def numbers() -> Sequence[str]:
    """Return the numbers of all figures."""
    return list(FIGURES)
