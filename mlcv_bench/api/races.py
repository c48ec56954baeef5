"""`race`: optimizers on a surface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlcv_bench.api.calls import items, public
from mlcv_bench.api.results import Reported
from mlcv_bench.optimizers.rule import DEFAULT_OPTIMIZERS
from mlcv_bench.report.races import race_report
from mlcv_bench.surface_race import race as studies
from mlcv_bench.surface_race.request import PROTOCOLS, RaceRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlcv_bench.optimizers.schedule import ScheduleName
    from mlcv_bench.records import Report
    from mlcv_bench.surface_race.metrics import RaceResult
    from mlcv_bench.surfaces.surface import Point, Surface


class FinishedRace(Reported, studies.Race):
    """A race on a surface: runs as `.results`, or columns as `.runs`; tunings `.sweeps`; first paths `.traces`."""

    def report(self) -> Report:
        """Return the race as a report: runs, summary table, what was left out and why."""
        return race_report(self)


@public
def race(  # noqa: PLR0913 - the public function takes what the command takes
    surface: str | Surface | Callable[..., Any] = "canyon",
    optimizers: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] = DEFAULT_OPTIMIZERS,
    *,
    steps: int = 1000,
    target: float = 1e-6,
    start: str | Point | None = None,
    starts: int | None = None,
    seed: int = 0,
    schedule: ScheduleName = "constant",
    warm_up: int = 0,
    clip_norm: float | None = None,
    protocols: str | Sequence[str] = PROTOCOLS,
    engine: str = "auto",
    threads: int | None = None,
    device: str = "cpu",
    condition: float | None = None,
    dim: int | None = None,
    rotate: float = 0.0,
    batch_size: int | None = None,
    noise: float = 0.0,
    progress: Callable[[Sequence[RaceResult]], None] | None = None,
) -> FinishedRace:
    """Race optimizers on a surface under several protocols.

    Args:
        surface: a name, a formula, a specification, a Surface, or a function of coordinates such as f(x, y).
        optimizers: names with settings, as `adam:beta1=0.95` or `torch.optim:RAdam`; update rules as functions and
            torch.optim.Optimizer classes, with functools.partial for their settings; `torch.optim:all` for all classes
            of a module. A rate set here is kept, and not tuned.
        steps: how many every run may take.
        target: relative: met where f - f* <= target (f0 - f*), without noise.
        start: where all begin; the surface's own by default.
        starts: instead, so many random starts in the surface's box; tuning then uses others than the race.
        seed: decides starts, noise and the order of data, alike for every optimizer.
        schedule: how the rate falls over a run: `constant`, `cosine`, `step` or `linear`.
        warm_up: steps in which the rate first rises from 1/N of it.
        clip_norm: the Euclidean norm that larger gradients are scaled down to.
        protocols: `default` settings; `tuned`, the best rate of the grid; `theory`, the closed form's best settings.
        engine: `scalar` (floats) or `lanes`, which give the same bytes; `auto` chooses by the work.
        threads: cores that share the lanes, by default all that are usable; the results do not depend on it.
        device: where classes of torch.optim run; rules run on the processor.
        condition: largest over smallest curvature, of the surfaces that take one.
        dim: coordinates, of the surfaces that take them.
        rotate: degrees to turn the surface by.
        batch_size: samples in a mini-batch, of the finite sums.
        noise: standard deviation of the noise on each coordinate of the gradient.
        progress: called with every optimizer and protocol that is finished.

    Raises:
        UsageError: a name, setting, start or limit is wrong; the message says what would be right.

    """
    request = RaceRequest(
        surface,
        items(optimizers),
        steps=steps,
        target=target,
        start=start,
        starts=starts,
        seed=seed,
        schedule=schedule,
        warm_up=warm_up,
        clip_norm=clip_norm,
        condition=condition,
        dim=dim,
        rotate=rotate,
        batch_size=batch_size,
        noise=noise,
        engine=engine,
        threads=threads,
        device=device,
        protocols=items(protocols),
    )
    return FinishedRace.of(studies.race(request, progress))
