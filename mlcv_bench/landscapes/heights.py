"""The loss of many copies of one model on the same images: of dense ones as one batched model, else one by one."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from mlcv_bench.environment import usable_cores
from mlcv_bench.names import user_code
from mlcv_bench.task_race.learners import named_state

Numbers = npt.NDArray[np.float64]
States = Callable[[slice], npt.NDArray[np.float32]]
"""What gives some of many states, (P, K + S)."""

TOGETHER = 64
"""Copies of a model that are evaluated as one batched model."""
IMAGES = 256
"""Images that are classified at once."""


class LossOnImages:
    """The mean cross-entropy of a model on images as a function of its state, in inference."""

    def __init__(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, batched: bool, threads: int | None = None
    ) -> None:
        """Keep the images, and a copy of the model for each thread, by default one on each usable core.

        The number of threads changes no digit: each has one of torch's, and the same copies are evaluated together.
        """
        on_processor = images.device.type == "cpu"
        self._threads = (usable_cores() if on_processor else 1) if threads is None else threads
        self._models: SimpleQueue[nn.Module] = SimpleQueue()
        for _ in range(self._threads):
            self._models.put(copy.deepcopy(model).eval())
        self._named = named_state(model)
        self._images, self._labels = images, labels
        self.together = TOGETHER if batched else 1

    def parts(self, states: States, count: int) -> Iterator[tuple[slice, Numbers]]:
        """Yield the losses of so many states in order, some at a time; one beyond all bounds is NaN or infinite."""
        places = [slice(i, min(i + self.together, count)) for i in range(0, count, self.together)]
        with contextlib.ExitStack() as stack:
            stack.enter_context(user_code())
            at_once: Callable[..., Iterator[Numbers]] = map
            if self._threads > 1:
                pool = ThreadPoolExecutor(self._threads)
                stack.callback(pool.shutdown, cancel_futures=True)
                at_once = pool.map
            yield from zip(places, at_once(lambda place: self._losses(states(place)), places), strict=True)

    @torch.no_grad()
    def _losses(self, states: npt.NDArray[np.float32]) -> Numbers:
        moved = torch.from_numpy(states).to(self._images.device)
        total = torch.zeros(len(states), dtype=torch.float64)
        model = self._models.get()
        try:
            for images, labels in zip(
                *(torch.split(part, IMAGES) for part in (self._images, self._labels)), strict=True
            ):
                logits = self._logits(model, moved, images)
                answers = labels.expand(len(states), -1)
                each = functional.cross_entropy(logits.flatten(0, 1), answers.flatten(), reduction="none")
                total += each.view(answers.shape).sum(dim=1).cpu()
        finally:
            self._models.put(model)
        return (total / len(self._labels)).numpy()

    def _logits(self, model: nn.Module, states: Tensor, images: Tensor) -> Tensor:
        sizes = [tensor.numel() for tensor in self._named.values()]
        parts = zip(self._named.items(), torch.split(states, sizes, dim=1), strict=True)
        state = {name: part.view(len(states), *tensor.shape) for (name, tensor), part in parts}

        def forward(own: dict[str, Tensor]) -> Tensor:
            logits: Tensor = functional_call(model, own, (images,))
            return logits

        if self.together == 1:
            return forward({name: part[0] for name, part in state.items()})[None]

        together: Tensor = vmap(forward)(state)
        return together
