"""What is run for the figures of the notes' first chapter, and what the runs say of their captions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mlcv_bench.claims.paths import distances, first
from mlcv_bench.surface_race.race import Race, race
from mlcv_bench.surface_race.request import RaceRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlcv_bench.surface_race.floats import Trajectory


@dataclass(frozen=True)
class Figure:
    """A figure of the notes: its caption there, the runs that show it, and what they say of it, limits included."""

    number: str
    caption: str
    panels: tuple[RaceRequest, ...]
    found: Callable[[Sequence[Race]], str]


def _panel(surface: str, optimizers: tuple[str, ...], steps: int, **settings: Any) -> RaceRequest:  # noqa: ANN401 - its fields
    """Return one surface of a figure, and what runs on it."""
    return RaceRequest(surface, optimizers, steps=steps, protocols=("default",), **settings)


def _steps(races: Sequence[Race]) -> str:
    """Say in how many steps each run met the target."""
    words = []
    for found in races:
        each = [f"{'never' if one.first_hit is None else one.first_hit} ({one.optimizer})" for one in found.results]
        words.append((f"{name_of(found)}: " if len(races) > 1 else "") + ", ".join(each))
    return f"Steps to a millionth of the first gap: {'; '.join(words)}."


def name_of(found: Race) -> str:
    """Name a panel: its surface, with the size of the mini-batches."""
    batches = found.surface.finite_sum
    return found.surface.name + (f", batches of {batches.batch_size}" if batches else "")


def _momentum(races: Sequence[Race]) -> str:
    return (
        f"{_steps(races)} The remark is about equal rates: at its own best, 1/L, plain SGD needs one step on a sphere "
        "(claims --id 1.3-faster)."
    )


def _look_ahead(races: Sequence[Race]) -> str:
    del races
    return "One step of both rules from the second point of a run of momentum, all arrows to the scale of the axes."


def _nesterov(races: Sequence[Race]) -> str:
    return (
        f"{_steps(races)} At these rates; from eta L = 1.36 on Nesterov's diverges at mu = 0.9, and each at its own "
        "best standard momentum is ahead (claims --id 1.3-nesterov)."
    )


def _slopes(races: Sequence[Race]) -> str:
    del races
    return (
        "Arrows are the two parts of a step of gradient descent at eta = 1/L, all to the scale of the axes: along w1 "
        "it arrives, along w2 it goes a tenth of the way."
    )


def _path(race: Race, optimizer: str) -> Trajectory:
    return next(trace for (label, _), trace in race.traces.items() if label == optimizer)


def _adagrad(races: Sequence[Race]) -> str:
    (race,) = races
    left = distances(_path(race, "adagrad:lr=0.02"), race.surface.minima[0])
    return (
        f"At SGD's rate AdaGrad has {left[-1] / left[0]:.0%} of its way left after {race.steps} steps, and goes "
        f"{(left[-101] - left[-1]) / left[0]:.1%} of it in the last 100. At a rate of its own it does not stop. "
        f"{_steps(races)}"
    )


def _rmsprop(races: Sequence[Race]) -> str:
    (race,) = races
    ours, theirs = _path(race, RMSPROP).values, _path(race, "sgd:lr=0.02").values
    ahead = first([a - b for a, b in zip(ours[1:], theirs[1:], strict=True)], lambda gap: gap > 0)
    late = [fmean(values[-100:]) - (race.surface.minimum or 0.0) for values in (ours, theirs)]
    return (
        f"RMSProp's loss is below SGD's for the first {ahead:.0f} steps; in the last 100 they lie {late[0]:.2g} and "
        f"{late[1]:.2g} above the minimum. The head start needs beta near 1: with 0.9 it can be behind "
        "(claims --id 1.4-rmsprop)."
    )


_EQUAL = ("sgd:lr=0.076", "momentum:lr=0.076,momentum=0.5")
"""1.9/L of the canyon, where plain descent zigzags."""
_BOTH_MOMENTA = ("sgd:lr=0.02", "momentum:lr=0.02", "nesterov:lr=0.02")
RMSPROP = "rmsprop:lr=0.05,beta=0.99"
_ADAPTIVE = ("sgd:lr=0.02", "adagrad:lr=0.02", RMSPROP, "adam:lr=0.05")


def _regression(optimizers: tuple[str, ...], batch_size: int = 8) -> RaceRequest:
    """Return a panel of mini-batches: the noise of SGD is real there."""
    return _panel("regression", optimizers, 600, batch_size=batch_size)


FIGURES: dict[str, Figure] = {
    figure.number: figure
    for figure in (
        Figure(
            "1.1",
            "Plain SGD vs momentum SGD in a sphere and a canyon",
            (_panel("sphere", _EQUAL, 120), _panel("canyon:condition=25", _EQUAL, 120)),
            _momentum,
        ),
        Figure(
            "1.2",
            "Visualization of the step in Nesterov momentum",
            (_panel("canyon:condition=4", ("momentum:lr=0.15",), 3, start=(3.0, 1.6)),),
            _look_ahead,
        ),
        Figure(
            "1.3",
            "Plain SGD vs standard momentum vs Nesterov momentum",
            (_panel("canyon:condition=25", _BOTH_MOMENTA, 150),),
            _nesterov,
        ),
        Figure(
            "1.4",
            "Loss where w1 has a larger gradient, while w2 has a smaller gradient",
            (_panel("canyon:condition=10", (), 1),),
            _slopes,
        ),
        Figure("1.5", "SGD vs AdaGrad", (_regression((*_ADAPTIVE[:2], "adagrad:lr=1")),), _adagrad),
        Figure("1.6", "SGD vs AdaGrad vs RMSProp", (_regression(_ADAPTIVE[:3]),), _rmsprop),
        Figure("1.7", "SGD vs AdaGrad vs RMSProp vs Adam", (_regression(_ADAPTIVE),), _steps),
        Figure(
            "1.8",
            "SGD vs AdaGrad vs RMSProp vs Adam with a smaller batch size",
            (_regression(_ADAPTIVE), _regression(_ADAPTIVE, 2)),
            _steps,
        ),
    )
}
"""Every figure of chapter 1."""


@dataclass(frozen=True)
class Drawn:
    """A figure with the races that were run for it."""

    figure: Figure
    races: tuple[Race, ...]


def run(number: str, *, seed: int = 0) -> Drawn:
    """Run what a figure shows."""
    figure = FIGURES[number]
    return Drawn(figure, tuple(race(dataclasses.replace(panel, seed=seed)) for panel in figure.panels))
