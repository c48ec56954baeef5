"""Subjects `momentum`, `nesterov`, `weight-decay`, `optimizers`: the notes' forms against each other and torch.optim.

Every path has 1000 steps in float64, at rates at which it is not chaotic, and is compared as a whole: the largest
difference over the path, relative to the largest value over the path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from mlcv_bench.equivalence import optimizer_paths as paths
from mlcv_bench.equivalence.comparison import difference, judge
from mlcv_bench.equivalence.controls import control
from mlcv_bench.equivalence.optimizer_paths import Course, Pair
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.subject import Case, Finding

DTYPE = "float64"
"""The rules run on Python's floats, which are float64 whatever type was asked for."""

Pairs = Callable[[Course], Iterator[Pair]]


def momentum_cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield the standard momentum on every course (notes 1.3)."""
    yield from _on_every_course(request, paths.momentum_pairs)


def nesterov_cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield Nesterov's momentum on every course, with and without the look-ahead (notes 1.3)."""
    yield from _on_every_course(request, paths.nesterov_pairs)


def weight_decay_cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield L2 against weight decay on every course (notes 1.4.4)."""
    yield from _on_every_course(request, paths.weight_decay_pairs)


def cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield every rule that torch.optim has too, on every course."""
    for name in paths.TWINS:
        yield from _on_every_course(request, partial(paths.twin_pairs, name), name)


def _on_every_course(request: VerifyRequest, pairs: Pairs, name: str = "") -> Iterator[Case]:
    # Nothing is drawn at random, and floats live on the CPU: neither seed nor device changes anything.
    del request
    for course in paths.courses():
        yield Case(f"{name} {course.name}".strip(), partial(examine, pairs, course))


def examine(pairs: Pairs, course: Course) -> Iterator[Finding]:
    """Judge every pair of paths; what is not judged is reported with its size."""
    for pair in pairs(course):
        reference = torch.tensor(pair.reference, dtype=torch.float64)
        other = torch.tensor(pair.other, dtype=torch.float64)
        if pair.mistake:
            yield control(pair.case, pair.quantity, reference, other, tolerance=paths.TOLERANCE, dtype=DTYPE)
        elif pair.judged:
            yield judge(pair.case, pair.quantity, reference, other, tolerance=paths.TOLERANCE, dtype=DTYPE)
        else:
            found = difference(reference, other)
            yield Finding(
                pair.case,
                pair.quantity,
                "report",
                dtype=DTYPE,
                max_abs_error=found.absolute,
                max_rel_error=found.relative,
                reason="two different things, as the notes say: reported, not judged",
            )
