"""What is run for the figures of the notes' first chapter: races on surfaces, and for the last one on real images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcv_bench.surface_race.race import Race, race
from mlcv_bench.surface_race.request import RaceRequest

if TYPE_CHECKING:
    from mlcv_bench.task_race.race import TaskRace


@dataclass(frozen=True)
class Figure:
    """A figure of the notes: its caption there, and the runs that show it."""

    number: str
    caption: str
    panels: tuple[RaceRequest, ...] = ()
    batch_sizes: tuple[int, ...] = ()
    """Of the races on real images that show it."""


def _panel(surface: str, optimizers: tuple[str, ...], steps: int, **settings: Any) -> RaceRequest:  # noqa: ANN401 - its fields
    """Return one surface of a figure, and what runs on it."""
    return RaceRequest(surface, optimizers, steps=steps, protocols=("default",), **settings)


_SPHERE = _panel("sphere", ("sgd:lr=0.02", "momentum:lr=0.02"), 150)
_CANYON = _panel("canyon:condition=25", ("sgd:lr=0.02", "momentum:lr=0.02"), 150)
_BOTH_MOMENTA = ("sgd:lr=0.02", "momentum:lr=0.02", "nesterov:lr=0.02")
_ADAPTIVE = ("sgd:lr=0.02", "adagrad:lr=0.1", "rmsprop:lr=0.02", "adam:lr=0.02")


def _regression(optimizers: tuple[str, ...]) -> RaceRequest:
    """Return a panel of mini-batches of 8: the noise of SGD is real there."""
    return _panel("regression", optimizers, 600, batch_size=8)


FIGURES: dict[str, Figure] = {
    figure.number: figure
    for figure in (
        Figure("1.1", "Plain SGD vs momentum SGD in a sphere and a canyon", (_SPHERE, _CANYON)),
        Figure(
            "1.2",
            "Visualization of the step in Nesterov momentum",
            (_panel("canyon:condition=4", ("momentum:lr=0.15",), 3, start=(3.0, 1.6)),),
        ),
        Figure(
            "1.3",
            "Plain SGD vs standard momentum vs Nesterov momentum",
            (_panel("canyon:condition=25", _BOTH_MOMENTA, 150),),
        ),
        Figure(
            "1.4",
            "Loss where w1 has a larger gradient, while w2 has a smaller gradient",
            (_panel("canyon:condition=10", (), 1),),
        ),
        Figure("1.5", "SGD vs AdaGrad", (_regression(_ADAPTIVE[:2]),)),
        Figure("1.6", "SGD vs AdaGrad vs RMSProp", (_regression(_ADAPTIVE[:3]),)),
        Figure("1.7", "SGD vs AdaGrad vs RMSProp vs Adam", (_regression(_ADAPTIVE),)),
        Figure("1.8", "SGD vs AdaGrad vs RMSProp vs Adam with a smaller batch size", batch_sizes=(128, 8)),
    )
}
"""Every figure of chapter 1."""

TRAINED = ("sgd:lr=0.05", "adagrad:lr=0.02", "rmsprop:lr=0.002", "adam:lr=0.002")
EPOCHS = 10
SEEDS = 3


@dataclass(frozen=True)
class Drawn:
    """A figure with the races that were run for it, on surfaces or on images."""

    figure: Figure
    races: tuple[Race, ...]
    trained: tuple[TaskRace, ...] = ()


def run(number: str, *, seed: int = 0) -> Drawn:
    """Run what a figure shows."""
    figure = FIGURES[number]
    races = tuple(race(dataclasses.replace(panel, seed=seed)) for panel in figure.panels)
    return Drawn(figure, races, tuple(_trained(batch_size, seed) for batch_size in figure.batch_sizes))


def _trained(batch_size: int, seed: int) -> TaskRace:
    from mlcv_bench.task_race.race import prepare  # noqa: PLC0415 - the figures are listed without it
    from mlcv_bench.task_race.request import TaskRaceRequest  # noqa: PLC0415 - as above
    from mlcv_bench.task_race.training import run_here  # noqa: PLC0415 - imports torch

    found = prepare(
        TaskRaceRequest(
            optimizers=TRAINED, protocols=("default",), batch_size=batch_size, epochs=EPOCHS, seed=seed, seeds=SEEDS
        )
    )
    run_here(found)
    return found
