"""The notes' figure 1.8: the same race on real images with a larger and a smaller batch."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from mlcv_bench.records import Column, Report, Table

if TYPE_CHECKING:
    from mlcv_bench.task_race.race import TaskRace

NUMBER = "1.8"
CAPTION = "SGD vs AdaGrad vs RMSProp vs Adam with a smaller batch size"
OPTIMIZERS = ("sgd:lr=0.05", "adagrad:lr=0.02", "rmsprop:lr=0.002", "adam:lr=0.002")
BATCH_SIZES = (128, 8)
EPOCHS = 10
SEEDS = 3


@dataclass(frozen=True)
class BatchSizes:
    """The races of the figure, one a batch size."""

    races: tuple[TaskRace, ...]

    def report(self) -> Report:
        """Return the runs behind the figure, and how much the loss varies from step to step at the end."""
        from mlcv_bench.task_race.summary import COLUMNS, rows_of  # noqa: PLC0415 - the gallery goes without

        rows = []
        for race in self.races:
            for contest in race.contests:
                runs = [result.run for result in contest.results if result.run is not None]
                rows.append(
                    {
                        "optimizer": contest.entrant.label,
                        "batch_size": contest.plan.setup.batch_size,
                        "steps": contest.plan.budget,
                        "train_loss": median(run.epochs[-1].train_loss or 0.0 for run in runs),
                        "spread": median(spread(run.losses[-contest.plan.steps_per_epoch :]) for run in runs),
                        "test_accuracy": median(result.test_accuracy or 0.0 for result in contest.results),
                    }
                )
        columns = (
            Column("optimizer", "optimizer", justify="left"),
            Column("batch_size", "batch"),
            Column("steps", "steps"),
            Column("train_loss", "loss of the last epoch", format=".4f"),
            Column("spread", "its spread over the steps", format=".4f"),
            Column("test_accuracy", "test accuracy", "%", ".1f", 0.01),
        )
        title = f"Figure {NUMBER}: digits, mlp, {EPOCHS} epochs, medians of {SEEDS} seeds"
        note = "Spread: the standard deviation of the mini-batch loss over the steps of the last epoch."
        epochs = [row for race in self.races for result in race.results for row in rows_of(result)]
        return Report("figures", COLUMNS, epochs, [Table(title, columns, rows, note)], details={"figure": NUMBER})


def spread(losses: tuple[float, ...]) -> float:
    """Return the standard deviation of some losses."""
    mean = sum(losses) / len(losses)
    return float((sum((loss - mean) ** 2 for loss in losses) / len(losses)) ** 0.5)


def run(seed: int = 0) -> BatchSizes:
    """Train everything that the figure shows: some seconds."""
    from mlcv_bench.task_race.race import prepare  # noqa: PLC0415 - the gallery lists figures without it
    from mlcv_bench.task_race.training import run_here  # noqa: PLC0415 - imports torch

    races = []
    for batch_size in BATCH_SIZES:
        race = prepare(
            optimizers=OPTIMIZERS,
            protocols=("default",),
            batch_size=batch_size,
            epochs=EPOCHS,
            seed=seed,
            seeds=SEEDS,
        )
        run_here(race)
        races.append(race)
    return BatchSizes(tuple(races))
