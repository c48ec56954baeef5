"""The picture of figure 1.8: the loss of every step under a larger and a smaller batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlcv_bench.report.batch_sizes import CAPTION, NUMBER
from mlcv_bench.report.plots.palette import style_of

if TYPE_CHECKING:
    from pathlib import Path

    from mlcv_bench.report.batch_sizes import BatchSizes


def draw(drawn: BatchSizes, path: Path) -> None:
    """Paint one panel a batch size: every step of the first seed in pale, the mean of each epoch of all seeds bold."""
    canvas = Figure(figsize=(11.5, 4.6), layout="constrained")
    panels = canvas.subplots(1, len(drawn.races), sharey=True, squeeze=False)[0]
    for axes, race in zip(panels, drawn.races, strict=True):
        labels = [contest.entrant.label for contest in race.contests]
        for contest in race.contests:
            style = style_of(contest.entrant.label, labels)
            per_epoch = contest.plan.steps_per_epoch
            runs = [result.run for result in contest.results if result.run is not None and result.run.losses]
            if not runs:
                continue
            losses = np.asarray(runs[0].losses)
            axes.plot(np.arange(1, len(losses) + 1) / per_epoch, losses, color=style.colour, linewidth=0.5, alpha=0.2)
            epochs = np.arange(1, len(losses) // per_epoch + 1)
            means = [
                np.median([np.mean(run.losses[(e - 1) * per_epoch : e * per_epoch]) for run in runs]) for e in epochs
            ]
            axes.plot(
                epochs - 0.5,
                means,
                color=style.colour,
                linestyle=style.line,
                linewidth=2.2,
                zorder=3,
                label=contest.entrant.label,
            )
        plan = race.plans[0]
        axes.set_title(f"batches of {plan.setup.batch_size}: {plan.steps_per_epoch} steps an epoch", fontsize=10)
        axes.set_yscale("log")
        axes.set_ylim(1e-3, 4)
        axes.set_xlabel("epochs: samples seen / training samples")
        axes.grid(visible=True, which="both", alpha=0.25)
    panels[0].set_ylabel("training loss, digits, mlp")
    panels[0].legend(fontsize=9, loc="lower left", title="bold: mean of an epoch; pale: each step", title_fontsize=8)
    canvas.suptitle(f"{NUMBER}  {CAPTION}", fontsize=12)
    canvas.savefig(path, dpi=140)
