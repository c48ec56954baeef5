"""Options that the commands on surfaces share, each defined once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlcv_bench.optimizers.schedule import ScheduleName

if TYPE_CHECKING:
    from mlcv_bench.execution.progress import Progress


def complete_surface(incomplete: str) -> list[str]:
    """Return the surfaces that begin so, for the shell."""
    from mlcv_bench.surfaces.catalog import REGISTRY

    return [name for name in REGISTRY if name.startswith(incomplete)]


def complete_optimizer(incomplete: str) -> list[str]:
    """Return the optimizers that begin so, for the shell."""
    from mlcv_bench.optimizers.rule import RULES

    return [name for name in RULES if name.startswith(incomplete)]


SURFACE_HELP = (
    "A surface, with settings as washboard:force=0.3; a formula as '0.5*(x^2 + 100 y^2) - pi'; or module:attribute."
)
OPTIMIZER_HELP = (
    "An optimizer, with settings as adam:lr=0.1,beta1=0.95; or module:function; or a class, as torch.optim:RAdam, or "
    "torch.optim:all. Repeatable."
)

SurfaceName = Annotated[str, typer.Option("--surface", help=SURFACE_HELP, autocompletion=complete_surface)]
Optimizers = Annotated[
    list[str] | None,
    typer.Option("--optimizer", help=OPTIMIZER_HELP, autocompletion=complete_optimizer, show_default=False),
]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Steps that every run may take.")]
Target = Annotated[float, typer.Option("--target", help="The share of the first gap f0 - f* that has to be left.")]
RaceTarget = Annotated[
    float,
    typer.Option(
        "--target",
        help="The share of the first gap f0 - f* that has to be left; on a task, the validation accuracy to be met.",
    ),
]
StartPoint = Annotated[str | None, typer.Option("--start", help="Where all begin, as '1.0 2.5'.", show_default=False)]
Starts = Annotated[
    int | None, typer.Option("--starts", min=1, help="Instead, so many random starts in the box.", show_default=False)
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Decides random starts, noise and mini-batches.")]
RaceSeed = Annotated[int, typer.Option("--seed", min=0, help="Decides starts, noise, weights and the order of data.")]
ScheduleOption = Annotated[ScheduleName, typer.Option("--schedule", help="How the learning rate falls over a run.")]
WarmUp = Annotated[
    int, typer.Option("--warm-up", min=0, help="Steps at the beginning in which the rate rises to its value.")
]
ClipNorm = Annotated[
    float | None,
    typer.Option("--clip-norm", help="Scale gradients whose Euclidean norm is larger down to it.", show_default=False),
]
Condition = Annotated[
    float | None,
    typer.Option("--condition", help="Largest over smallest curvature, of canyon and quadratic.", show_default=False),
]
Dimension = Annotated[
    int | None,
    typer.Option(
        "--dim",
        help="Coordinates: of sphere and quadratic up to 1000000, of rosenbrock and rastrigin up to 64.",
        show_default=False,
    ),
]
Rotate = Annotated[float, typer.Option("--rotate", help="Degrees to turn the surface by, start and minima included.")]
Noise = Annotated[float, typer.Option("--noise", help="Standard deviation of noise on each gradient coordinate.")]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", help="Samples in a mini-batch, of regression and logistic.", show_default=False),
]
RaceBatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        help="Samples in a mini-batch, of regression and logistic, or of a task (32).",
        show_default=False,
    ),
]
EngineOption = Annotated[str, typer.Option("--engine", help="auto, scalar (floats) or lanes (numba); same results.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="Cores that share a population (all usable); same results.", show_default=False
    ),
]
RaceDevice = Annotated[
    str, typer.Option("--device", help="For tasks and classes of torch.optim: cpu, cuda, xpu or mps.")
]


def progress_of_race(quiet: bool) -> Progress:
    """Return what shows how far a race is, unless it is over at once; off a terminal a line every 30 s."""
    from mlcv_bench.execution.progress import Progress

    return Progress(quiet=quiet, patience_s=0.5, every_s=0.2, lines=True)
