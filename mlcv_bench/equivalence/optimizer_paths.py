"""The notes' optimizers step by step beside torch.optim's and beside their other forms: pairs of paths to compare."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mlcv_bench.optimizers.rule import RULES, Rule
from mlcv_bench.surfaces import catalog
from mlcv_bench.surfaces.surface import Point, Surface

STEPS = 1000
TOLERANCE = 1e-12
"""Of the largest difference over the path, relative to the largest value over the path."""

Path = list[tuple[float, ...]]


@dataclass(frozen=True)
class Pair:
    """Two paths that should agree, or, for a mistake, must not; not `judged` where the difference is the finding."""

    case: str
    quantity: str
    reference: Path
    other: Path
    mistake: bool = False
    judged: bool = True


@dataclass(frozen=True)
class Course:
    """Where both sides run: a surface and a rate at which its paths are not chaotic."""

    surface: Surface
    lr: float

    @property
    def name(self) -> str:
        """The surface and the rate."""
        return f"{self.surface.name} lr={self.lr:g}"


def courses() -> list[Course]:
    """Return a valley with straight axes, one with turned axes, and a curved one."""
    return [
        Course(catalog.find("canyon"), 0.01),
        Course(catalog.find("canyon", rotate=30.0), 0.005),
        Course(catalog.find("rosenbrock"), 2e-4),
    ]


def run_rule(
    rule: Rule,
    course: Course,
    settings: dict[str, float],
    *,
    gradients: Sequence[Point] | None = None,
    shift: Callable[[float, dict[str, float]], float] | None = None,
) -> tuple[Path, list[Point]]:
    """Run a rule for STEPS steps on floats, and return its path and the gradients it used.

    Args:
        rule: from the table.
        course: surface and rate.
        settings: hyperparameters; the course's rate comes last.
        gradients: use these instead of the surface's own.
        shift: what to record of a coordinate instead of its value, from the value and its slots.

    """
    hyper = {**rule.defaults, **settings, "lr": course.lr}
    point = list(course.surface.start)
    slots = [dict.fromkeys(rule.slots, 0.0) for _ in point]
    path = [tuple(point)]
    used: list[Point] = []
    for t in range(1, STEPS + 1):
        places = [rule.gradient_point(x, slot | hyper) for x, slot in zip(point, slots, strict=True)]
        gradient = gradients[t - 1] if gradients is not None else course.surface.gradient(*places)
        used.append(gradient)
        for i, g in enumerate(gradient):
            result = rule.update(point[i], g, t, *slots[i].values(), **hyper)
            moved, *kept = result if isinstance(result, tuple) else (result,)
            point[i] = moved
            slots[i] = dict(zip(rule.slots, kept, strict=True))
        path.append(tuple(shift(x, slot) if shift else x for x, slot in zip(point, slots, strict=True)))
    return path, used


def run_torch(make: Callable[[list[torch.Tensor]], torch.optim.Optimizer], course: Course) -> tuple[Path, list[Point]]:
    """Run one of torch's optimizers in float64 on the surface's analytic gradient; return path and gradients."""
    parameter = torch.tensor(course.surface.start, dtype=torch.float64)
    optimizer = make([parameter])
    path = [tuple(parameter.tolist())]
    used: list[Point] = []
    for _ in range(STEPS):
        gradient = course.surface.gradient(*path[-1])
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        used.append(gradient)
        path.append(tuple(parameter.tolist()))
    return path, used


def torch_maker(kind: str, lr: float, **settings: Any) -> Callable[[list[torch.Tensor]], torch.optim.Optimizer]:  # noqa: ANN401 - torch's own options
    """Return what builds `torch.optim.KIND`."""
    return lambda parameters: getattr(torch.optim, kind)(parameters, lr=lr, **settings)


MOMENTUM = 0.9


def momentum_pairs(course: Course) -> Iterator[Pair]:
    """The notes' standard momentum (v <- mu v - lr g) beside torch's (b <- mu b + g) and beside the explicit sum."""
    rule = RULES["momentum"]
    ours, gradients = run_rule(rule, course, {"momentum": MOMENTUM})
    theirs, _ = run_torch(torch_maker("SGD", course.lr, momentum=MOMENTUM), course)
    yield Pair("notes = torch.optim.SGD(momentum)", "path", theirs, ours)
    velocity = [tuple(b - a for a, b in zip(p, q, strict=True)) for p, q in itertools.pairwise(ours)]
    sums = weighted_sums([tuple(-course.lr * g for g in gradient) for gradient in gradients])
    yield Pair("v = sum of mu^i times past steps", "velocity", sums, velocity)
    damped, _ = run_torch(torch_maker("SGD", course.lr, momentum=MOMENTUM, dampening=1e-9), course)
    yield Pair("torch with dampening 1e-9", "path", damped, ours, mistake=True)
    late = [(0.0,) * len(velocity[0]), *velocity[:-1]]
    yield Pair("v of the step before", "velocity", sums, late, mistake=True)


def weighted_sums(steps: Sequence[Point]) -> Path:
    """Return sum_i mu^i step_(t-i) for every t, each from its terms (those below 1e-30 of the largest left out)."""
    reach = 700
    weights = [MOMENTUM**i for i in range(reach)]
    return [
        tuple(sum(weights[i] * steps[t - i][axis] for i in range(min(t + 1, reach))) for axis in range(len(steps[0])))
        for t in range(len(steps))
    ]


def nesterov_pairs(course: Course) -> Iterator[Pair]:
    """The look-ahead form beside the forms without it: phi = theta + mu v (notes 1.3, last remark)."""
    rule = RULES["nesterov"]
    settings = {"momentum": MOMENTUM}

    def ahead(x: float, slot: dict[str, float]) -> float:
        return x + MOMENTUM * slot["v"]

    looked, _ = run_rule(rule, course, settings, shift=ahead)
    theirs, _ = run_torch(torch_maker("SGD", course.lr, momentum=MOMENTUM, nesterov=True), course)
    yield Pair("look-ahead point = torch.optim.SGD(nesterov)", "path", theirs, looked)
    yield Pair("look-ahead point = form without look-ahead", "path", without_lookahead(course), looked)
    plain, _ = run_rule(rule, course, settings)
    yield Pair("iterate instead of the look-ahead point", "path", theirs, plain, mistake=True)
    heavy, _ = run_rule(RULES["momentum"], course, settings)
    yield Pair("standard momentum instead of Nesterov", "path", theirs, heavy, mistake=True)


def without_lookahead(course: Course) -> Path:
    """Run phi <- phi + mu^2 v - (1 + mu) lr grad(phi), v <- mu v - lr grad(phi): no gradient is taken ahead."""
    phi = list(course.surface.start)
    velocity = [0.0] * len(phi)
    path = [tuple(phi)]
    for _ in range(STEPS):
        gradient = course.surface.gradient(*phi)
        for i, g in enumerate(gradient):
            phi[i] += MOMENTUM * MOMENTUM * velocity[i] - (1 + MOMENTUM) * course.lr * g
            velocity[i] = MOMENTUM * velocity[i] - course.lr * g
        path.append(tuple(phi))
    return path


DECAY = 0.01


def weight_decay_pairs(course: Course) -> Iterator[Pair]:
    """L2 in the gradient beside decay of the weights: one thing for SGD, another for Adam and for momentum."""
    lr = course.lr
    l2_sgd, _ = run_torch(torch_maker("SGD", lr, weight_decay=DECAY), course)
    decoupled = decayed(RULES["sgd"], course, {}, lr * DECAY)
    yield Pair("SGD: L2 = decay", "path", l2_sgd, decoupled)
    notes, _ = run_rule(RULES["adamw"], course, {"weight_decay": lr * DECAY})
    library, _ = run_torch(torch_maker("AdamW", lr, weight_decay=DECAY), course)
    yield Pair("AdamW of the notes with lambda = lr x lambda of the library", "path", library, notes)
    l2_adam, used = run_torch(torch_maker("Adam", lr, weight_decay=DECAY), course)
    ours, _ = run_rule(RULES["adam_l2"], course, {"weight_decay": DECAY}, gradients=used)
    yield Pair("Adam with L2 = torch.optim.Adam(weight_decay)", "path", l2_adam, ours)
    yield Pair("Adam: L2 against decay", "path", library, l2_adam, judged=False)
    l2_momentum, _ = run_torch(torch_maker("SGD", lr, momentum=MOMENTUM, weight_decay=DECAY), course)
    decayed_momentum = decayed(RULES["momentum"], course, {"momentum": MOMENTUM}, lr * DECAY)
    yield Pair("SGD with momentum: L2 against decay", "path", l2_momentum, decayed_momentum, judged=False)
    twice, _ = run_rule(RULES["adamw"], course, {"weight_decay": lr * DECAY * (1 + 1e-6)})
    yield Pair("lambda a millionth larger", "path", library, twice, mistake=True)
    yield Pair("Adam: L2 taken for decay", "path", library, l2_adam, mistake=True)


def decayed(rule: Rule, course: Course, settings: dict[str, float], decay: float) -> Path:
    """Run a rule and take `decay` times the parameter away after every step."""
    hyper = {**rule.defaults, **settings, "lr": course.lr}
    point = list(course.surface.start)
    slots = [[0.0] * len(rule.slots) for _ in point]
    path = [tuple(point)]
    for t in range(1, STEPS + 1):
        gradient = course.surface.gradient(*point)
        for i, g in enumerate(gradient):
            result = rule.update(point[i], g, t, *slots[i], **hyper)
            moved, *kept = result if isinstance(result, tuple) else (result,)
            point[i], slots[i] = moved - decay * point[i], list(kept)
        path.append(tuple(point))
    return path


TWINS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": MOMENTUM}),
    "adagrad": ("Adagrad", {"eps": 1e-8}),
    "rmsprop": ("RMSprop", {"alpha": 0.9, "eps": 1e-8}),
    "adam": ("Adam", {}),
    "adam_l2": ("Adam", {"weight_decay": 0.01}),
    "adamw_torch": ("AdamW", {"weight_decay": 0.01}),
}
"""Every rule that torch.optim has under the same definition, with torch's name and options for it."""


def twin_pairs(name: str, course: Course) -> Iterator[Pair]:
    """A rule beside torch.optim's, both fed the gradients of torch's path: rounding near zero cannot grow."""
    kind, options = TWINS[name]
    theirs, gradients = run_torch(torch_maker(kind, course.lr, **options), course)
    ours, _ = run_rule(RULES[name], course, {}, gradients=gradients)
    options_text = ", ".join(f"{key}={value}" for key, value in options.items())
    yield Pair(f"{name} = torch.optim.{kind}({options_text})", "path", theirs, ours)
    nudged = Course(course.surface, course.lr * (1 + 1e-9))
    wrong, _ = run_rule(RULES[name], nudged, {}, gradients=gradients)
    yield Pair(f"{name} at a rate a billionth larger", "path", theirs, wrong, mistake=True)
