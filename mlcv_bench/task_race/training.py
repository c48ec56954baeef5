"""The training loop: epochs of shuffled mini-batches, measured alike for one model and for many at once."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.errors import BenchError
from mlcv_bench.names import user_code
from mlcv_bench.task_race.jobs import Epoch, Job, Run
from mlcv_bench.task_race.learners import BatchedLearner, Learner, SingleLearner
from mlcv_bench.task_race.optimizers import TaskOptimizer, find_optimizer
from mlcv_bench.tasks.datasets import Dataset, epoch_batches, load, steps_per_epoch
from mlcv_bench.tasks.models import build_model

SCORED_AT_ONCE = 4096
"""Images of all lanes together that are classified in one go: bounds the memory, and fixes the order of the sums."""

OUT_OF_BOUNDS = 1e6
"""A cross-entropy beyond this, or NaN, is a divergence: guessing costs log(classes), some 2."""

_ONE_AT_A_TIME = threading.Lock()


Watch = Callable[[int, Learner], None]
"""Is shown the number of a step and the learner after it; 0 is before the first."""


class OtherDataError(BenchError):
    """The images on this machine are not those that the race was started with."""


def run_job(job: Job, watch: Watch | None = None) -> list[Run]:
    """Train every lane of a job, on one thread, and return what each gave, in the order of `job.lanes`.

    Args:
        job: what to train.
        watch: looks at the learner before the first step and after each.

    Raises:
        UsageError: the images or the model cannot be had.
        OtherDataError: a worker of a cluster has other images under the same path.

    """
    # Threads of one worker take turns: torch's global generator (dropout) and thread count are the process's.
    # A model may import its neighbours as late as in a forward pass, or call sys.exit there.
    with _ONE_AT_A_TIME, user_code():
        torch.set_num_threads(1)
        setup = job.setup
        data = load(setup.task, setup.data, setup.image_size)
        if setup.fingerprint and data.fingerprint != setup.fingerprint:
            raise OtherDataError(f"the images of {setup.task} on this worker differ from those the race began with")
        data = data.on(setup.device or "cpu")
        optimizer = find_optimizer(job.optimizer)
        if job.batched:
            return Training(job, data, _batched(job, data, optimizer)).run(watch)
        runs: list[Run] = []
        for rate, seed in job.lanes:
            alone = replace(job, rates=(rate,), seeds=(seed,))
            model = _model(job, data, seed)
            torch.manual_seed(seed)
            settings = dict(job.settings) | ({"lr": rate} if rate is not None else {})
            runs += Training(alone, data, SingleLearner(model, optimizer, settings, setup.clip_norm)).run(watch)
        return runs


def run_job_plainly(job: Job) -> list[dict[str, Any]]:
    """Do what `run_job` does, and return plain values, for a store and for the way back from a worker."""
    return [run.as_dict() for run in run_job(job)]


def _model(job: Job, data: Dataset, seed: int) -> nn.Module:
    model = build_model(job.model or job.setup.model, data.input, data.classes, seed, job.setup.settings)
    return model.to(job.setup.device or "cpu")


def _batched(job: Job, data: Dataset, optimizer: TaskOptimizer) -> BatchedLearner:
    if optimizer.rule is None:
        raise ValueError(f"{optimizer.label} cannot be batched: it is not a rule")
    models = {seed: _model(job, data, seed) for seed in job.seeds}
    rates = [rate for rate, _ in job.lanes if rate is not None]
    chosen = [models[seed] for _, seed in job.lanes]
    return BatchedLearner(chosen, optimizer.rule, rates, job.setup.clip_norm, **dict(job.settings))


class Training:
    """One job while it runs."""

    def __init__(self, job: Job, data: Dataset, learner: Learner) -> None:
        """Prepare the parts of the data for every lane."""
        self.job, self.data, self.learner = job, data, learner
        self.keep = job.purpose == "race"
        self.seeds = sorted(set(job.seeds))
        splits = {seed: data.split(seed) for seed in self.seeds}
        self.train = {seed: training for seed, (training, _) in splits.items()}
        self.lane_seeds = [seed for _, seed in job.lanes]
        lanes = len(self.lane_seeds)
        self.validating = torch.stack([splits[seed][1] for seed in self.lane_seeds])
        self.per_epoch = steps_per_epoch(data.training, job.setup.batch_size, drop_last=job.setup.drop_last)
        self.steps = self.per_epoch * job.setup.epochs
        self.losses = torch.full((self.steps, lanes), math.nan)
        self.correct = torch.zeros((self.steps, lanes), dtype=torch.int64)
        self.norms = torch.full((2, self.steps, lanes), math.nan)
        self.sizes = torch.zeros(self.steps, dtype=torch.int64)
        self.evaluations = torch.zeros(self.steps, dtype=torch.int64)
        self.checks: list[tuple[int, Tensor, Tensor]] = []
        self.ends: list[tuple[Tensor, Tensor, Tensor | None]] = []
        """Of each epoch: validation loss and accuracy, and the right answers on each class of the test part."""

    def run(self, watch: Watch | None = None) -> list[Run]:
        """Train to the end, or until no lane is finite any more."""
        setup = self.job.setup
        schedule = setup.rate_schedule
        gap = math.ceil(self.per_epoch / setup.checks)
        step = 0
        if watch is not None:
            watch(step, self.learner)
        for epoch in range(setup.epochs):
            for u, chosen in enumerate(self._batches(epoch), start=1):
                images, labels = self.data.images[chosen], self.data.labels[chosen]
                factor = schedule.factor(step + 1, self.steps)
                shown = self.learner.step(images, labels, factor, norms=self.keep)
                self.losses[step], self.correct[step], self.sizes[step] = shown.losses, shown.correct, labels.shape[1]
                self.evaluations[step] = shown.evaluations
                if shown.gradient_norms is not None and shown.update_norms is not None:
                    self.norms[0, step], self.norms[1, step] = shown.gradient_norms, shown.update_norms
                step += 1
                if watch is not None:
                    watch(step, self.learner)
                if u % gap == 0 or u == self.per_epoch:
                    loss, right = self._score(self.data.images, self.data.labels, self.validating)
                    self.checks.append((step, loss, right.sum(dim=1).double() / right.shape[1]))
            tested = None
            if self.keep:
                everything = torch.arange(len(self.data.test_labels)).expand(len(self.lane_seeds), -1)
                _, right = self._score(self.data.test_images, self.data.test_labels, everything)
                tested = right_by_class(right, self.data.test_labels.cpu(), self.data.classes)
            self.ends.append((self.checks[-1][1], self.checks[-1][2], tested))
            if not (self.losses[step - 1] <= OUT_OF_BOUNDS).any():
                break
        return [self._lane(lane) for lane in range(len(self.lane_seeds))]

    def _batches(self, epoch: int) -> Iterator[Tensor]:
        """Yield the images of each step, (lanes, B): every seed has its own order."""
        size, drop_last = self.job.setup.batch_size, self.job.setup.drop_last
        orders = [epoch_batches(self.data.training, size, seed, epoch, drop_last=drop_last) for seed in self.seeds]
        positions = [self.seeds.index(seed) for seed in self.lane_seeds]
        for parts in zip(*orders, strict=True):
            own = [self.train[seed][part] for seed, part in zip(self.seeds, parts, strict=True)]
            yield torch.stack([own[position] for position in positions])

    def _score(self, images: Tensor, labels: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return each lane's mean loss on its own `chosen` images (lanes, N), and which answers are right."""
        size = max(1, SCORED_AT_ONCE // chosen.shape[0])
        losses = torch.zeros(chosen.shape[0], dtype=torch.float64)
        answers: list[Tensor] = []
        for part in torch.split(chosen, size, dim=1):
            loss, right = self.learner.score(images[part], labels[part])
            losses += loss.cpu()
            answers.append(right.cpu())
        return losses / chosen.shape[1], torch.cat(answers, dim=1)

    def _lane(self, lane: int) -> Run:
        rate, seed = self.job.lanes[lane]
        diverged = self._diverged_at(lane)
        last = self.steps if diverged is None else diverged - 1
        checks = [check for check in self.checks if check[0] <= last]
        hits = [step for step, _, accuracy in checks if float(accuracy[lane]) >= self.job.setup.target]
        last_miss = max((step for step, _, _ in checks if step not in hits), default=0)
        finite = [float(loss[lane]) for _, loss, _ in checks if math.isfinite(loss[lane])]

        def kept(values: Tensor) -> tuple[float, ...]:
            return tuple(values[:last].tolist()) if self.keep else ()

        return Run(
            lr=rate,
            seed=seed,
            first_hit=min(hits, default=None),
            held_from=None if diverged is not None else min((step for step in hits if step > last_miss), default=None),
            best_loss=min(finite, default=None),
            loss_area=None if diverged is not None else self.losses[:, lane].double().mean().item(),
            diverged_at=diverged,
            evaluations=int(self.evaluations[:last].sum()),
            epochs=tuple(self._epochs(lane, diverged)) if self.keep else (),
            losses=kept(self.losses[:, lane]),
            accuracies=kept(self.correct[:, lane] / self.sizes),
            gradient_norms=kept(self.norms[0, :, lane]),
            update_norms=kept(self.norms[1, :, lane]),
        )

    def _diverged_at(self, lane: int) -> int | None:
        """Return the step, from 1 on, whose loss was out of bounds, or after which the validation loss was."""
        outside = ~(self.losses[:, lane] <= OUT_OF_BOUNDS)
        trained = [int(step) + 1 for step in outside.nonzero()[:1]]
        scored = [step for step, loss, _ in self.checks if not loss[lane] <= OUT_OF_BOUNDS]
        return min(trained + scored, default=None)

    def _epochs(self, lane: int, diverged: int | None) -> Iterator[Epoch]:
        images: list[int] = torch.bincount(self.data.test_labels.cpu(), minlength=self.data.classes).tolist()
        for number, (loss, accuracy, tested) in enumerate(self.ends):
            begin, end = number * self.per_epoch, (number + 1) * self.per_epoch
            sizes = self.sizes[begin:end].double()
            if diverged is not None and diverged <= end:
                yield Epoch(end)
                return
            weights = sizes / sizes.sum()
            yield Epoch(
                step=end,
                train_loss=float((self.losses[begin:end, lane].double() * weights).sum()),
                train_accuracy=float(self.correct[begin:end, lane].sum() / sizes.sum()),
                val_loss=float(loss[lane]),
                val_accuracy=float(accuracy[lane]),
                test_accuracy=None if tested is None else sum(tested[lane].tolist()) / sum(images),
                gradient_norm=float(self.norms[0, begin:end, lane].double().mean()),
                update_norm=float(self.norms[1, begin:end, lane].double().mean()),
                class_accuracy=None if tested is None else self._by_class(tested[lane].tolist(), images),
            )

    def _by_class(self, right: list[int], images: list[int]) -> dict[str, float]:
        answers = zip(self.data.names, right, images, strict=True)
        return {name: own / count for name, own, count in answers if count}


def right_by_class(right: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return how many of each class's images were answered rightly, (lanes, classes), from `right` (lanes, N)."""
    return torch.stack([torch.bincount(labels[lane], minlength=classes) for lane in right])
