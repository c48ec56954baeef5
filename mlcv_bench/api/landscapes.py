"""`landscape`: what of the loss of a real network can be seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mlcv_bench.api.calls import items, public, texts_of
from mlcv_bench.api.results import Reported
from mlcv_bench.architectures.reproducibility import process_kept
from mlcv_bench.landscapes import landscape as studies
from mlcv_bench.landscapes.request import LandscapeRequest
from mlcv_bench.report.landscapes import landscape_report
from mlcv_bench.task_race.request import FIRST_ORDER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlcv_bench.optimizers.schedule import ScheduleName
    from mlcv_bench.records import Report


class FinishedLandscape(Reported, studies.Landscape):
    """A landscape: `.planes` have the losses and the paths on them; a row of `.frame` is a point or a step."""

    def report(self) -> Report:
        """Return the landscape as a report: every point and step, a table a plane, what failed and why."""
        return landscape_report(self)


@public
def landscape(  # noqa: PLR0913 - every option of the command, by its name
    task: str = "digits",
    optimizers: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] = FIRST_ORDER,
    *,
    model: str | Callable[..., Any] = "mlp",
    directions: str | Sequence[str] = "principal",
    resolution: int = 51,
    extent: float | None = None,
    images: int = 1000,
    every: int | None = None,
    epochs: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    schedule: ScheduleName = "constant",
    warm_up: int = 0,
    clip_norm: float | None = None,
    drop_last: bool = False,
    settings: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    image_size: int = 32,
    device: str = "cpu",
    progress: Callable[[str], object] = lambda _line: None,
) -> FinishedLandscape:
    """Take the loss of a network on planes through its trained weights, with every optimizer's path on them.

    Args:
        task: digits, mnist-5k, mnist, fashion-mnist, cifar10 or images.
        optimizers: as in `race_on_tasks`; each trains once, at its default rate or the one that is set.
        model: as one of `race_on_tasks`.
        directions: `principal` of the optimizers' paths; `random`, each filter as long as the trained weights' (Li et
            al. 2018); or both, a plane each.
        resolution: points along each side of a plane.
        extent: half a plane's side; by default 1 along random directions, and what holds all paths along principal
            ones.
        images: training images whose mean loss is taken; of fewer, all.
        every: steps from one point of a path to the next; by default 1, or of a model with convolutions as many as
            leave a path 100 points.
        epochs: of every run; by default the task's own.
        batch_size: images in a mini-batch.
        seed: decides first weights, order of the data, validation part and random directions.
        schedule: how the rate falls over the steps of all epochs: `constant`, `cosine`, `step` or `linear`.
        warm_up: steps in which the rate first rises from 1/N of it.
        clip_norm: the Euclidean norm, over all parameters, that larger gradients are scaled down to.
        drop_last: whether an epoch leaves out a last batch that is smaller than the others.
        settings: arguments for the model's builder.
        data: folder (or archive) with the task's files, where it needs any.
        image_size: height and width that a folder's images are brought to.
        device: where the model is trained and evaluated: cpu, cuda, xpu or mps.
        progress: is given a line whenever something is done.

    Raises:
        UsageError: something in the request is wrong; the message says what would be right.

    """
    request = LandscapeRequest(
        items(task),
        items(optimizers),
        items(model),
        directions=items(directions),
        resolution=resolution,
        extent=extent,
        images=images,
        every=every,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        schedule=schedule,
        warm_up=warm_up,
        clip_norm=clip_norm,
        drop_last=drop_last,
        settings=texts_of(settings),
        data=None if data is None else Path(data),
        image_size=image_size,
        device=device,
    )
    with process_kept():
        torch.set_num_threads(1)
        return FinishedLandscape.of(studies.landscape(request, progress))
