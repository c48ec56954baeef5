"""Subjects `momentum`, `nesterov`, `weight-decay`, `optimizers`: the notes' forms against each other and torch.optim.

Every path has 1000 steps in float64, at rates at which it is not chaotic, and is compared as a whole: the largest
difference over the path, relative to the largest value over the path. Nothing is drawn at random, and the rules run on
Python's floats: neither seed, nor type, nor device changes anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from mlcv_bench.equivalence.comparison import as_control, judge
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.subject import Case, Finding
from mlcv_bench.optimizers.rule import RULES, Rule
from mlcv_bench.surfaces import catalog
from mlcv_bench.surfaces.surface import Point, Surface

STEPS = 1000
TOLERANCE = 1e-12
"""Of the largest difference over the path, relative to the largest value over the path."""

Path = list[tuple[float, ...]]


@dataclass(frozen=True)
class RatedSurface:
    """Where paths run: a surface, and a learning rate at which they are not chaotic."""

    surface: Surface
    lr: float

    @property
    def name(self) -> str:
        """The surface and the rate."""
        return f"{self.surface.name} lr={self.lr:g}"


def on_every_surface(
    compare: Callable[[RatedSurface], Iterator[Finding]], _request: VerifyRequest, name: str = ""
) -> Iterator[Case]:
    """Yield a valley with straight axes, one with turned axes, and a curved one."""
    for rated in (
        RatedSurface(catalog.find("canyon"), 0.01),
        RatedSurface(catalog.find("canyon", rotate=30.0), 0.005),
        RatedSurface(catalog.find("rosenbrock"), 2e-4),
    ):
        yield Case(f"{name} {rated.name}".strip(), partial(compare, rated))


def same(comparison: str, reference: Path, other: Path, quantity: str = "path") -> Finding:
    """Judge two paths that should agree."""
    tensors = (torch.tensor(path, dtype=torch.float64) for path in (reference, other))
    return judge(comparison, quantity, *tensors, tolerance=TOLERANCE, dtype="float64")


def wrong(what: str, reference: Path, other: Path, quantity: str = "path") -> Finding:
    """Judge a path that was made wrong on purpose."""
    return as_control(same(what, reference, other, quantity))


def different(comparison: str, reference: Path, other: Path) -> Finding:
    """Report how far two paths are apart that are not one."""
    return replace(
        same(comparison, reference, other),
        proof="report",
        tolerance=None,
        passed=None,
        reason="two different things, as the notes say: reported, not judged",
    )


def run_rule(
    rule: Rule,
    rated: RatedSurface,
    settings: dict[str, float],
    *,
    gradients: Sequence[Point] | None = None,
    decay: float = 0.0,
    shift: Callable[[float, dict[str, float]], float] | None = None,
) -> tuple[Path, list[Point]]:
    """Run a rule on floats, and return its path and the gradients it used.

    Args:
        rule: from the table.
        rated: surface and rate.
        settings: the other hyperparameters.
        gradients: use these instead of the surface's own.
        decay: take this share of the parameter away after every step.
        shift: what to record of a coordinate instead of its value, from the value and its slots.

    """
    hyper = {**rule.defaults, **settings, "lr": rated.lr}
    point = list(rated.surface.start)
    slots = [dict.fromkeys(rule.slots, 0.0) for _ in point]
    path = [tuple(point)]
    used: list[Point] = []
    for t in range(1, STEPS + 1):
        places = [rule.gradient_point(x, slot | hyper) for x, slot in zip(point, slots, strict=True)]
        gradient = gradients[t - 1] if gradients is not None else rated.surface.gradient(*places)
        used.append(gradient)
        for i, g in enumerate(gradient):
            moved, *kept = rule.step(point[i], g, t, *slots[i].values(), **hyper)
            point[i] = moved - decay * point[i]
            slots[i] = dict(zip(rule.slots, kept, strict=True))
        path.append(tuple(shift(x, slot) if shift else x for x, slot in zip(point, slots, strict=True)))
    return path, used


def run_torch(kind: str, rated: RatedSurface, **options: Any) -> tuple[Path, list[Point]]:  # noqa: ANN401 - torch's own
    """Run `torch.optim.KIND` in float64 on the surface's analytic gradient; return path and gradients."""
    parameter = torch.tensor(rated.surface.start, dtype=torch.float64)
    optimizer = getattr(torch.optim, kind)([parameter], lr=rated.lr, **options)
    path = [tuple(parameter.tolist())]
    used: list[Point] = []
    for _ in range(STEPS):
        gradient = rated.surface.gradient(*path[-1])
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        used.append(gradient)
        path.append(tuple(parameter.tolist()))
    return path, used


MOMENTUM = 0.9


def compare_momentum(rated: RatedSurface) -> Iterator[Finding]:
    """Compare the notes' standard momentum (v <- mu v - lr g) with torch's (b <- mu b + g), and v with the sum."""
    rule = RULES["momentum"]
    ours, gradients = run_rule(rule, rated, {"momentum": MOMENTUM})
    theirs, _ = run_torch("SGD", rated, momentum=MOMENTUM)
    yield same("notes = torch.optim.SGD(momentum)", theirs, ours)
    velocity = [tuple(b - a for a, b in zip(p, q, strict=True)) for p, q in itertools.pairwise(ours)]
    sums = weighted_sums([tuple(-rated.lr * g for g in gradient) for gradient in gradients])
    yield same("v = sum of mu^i times past steps", sums, velocity, "velocity")
    damped, _ = run_torch("SGD", rated, momentum=MOMENTUM, dampening=1e-9)
    yield wrong("torch with dampening 1e-9", damped, ours)
    late = [(0.0,) * len(velocity[0]), *velocity[:-1]]
    yield wrong("v of the step before", sums, late, "velocity")


def weighted_sums(steps: Sequence[Point]) -> Path:
    """Return sum_i mu^i step_(t-i) for every t, each from its terms (those below 1e-30 of the largest left out)."""
    reach = 700
    weights = [MOMENTUM**i for i in range(reach)]
    return [
        tuple(sum(weights[i] * steps[t - i][axis] for i in range(min(t + 1, reach))) for axis in range(len(steps[0])))
        for t in range(len(steps))
    ]


def compare_nesterov(rated: RatedSurface) -> Iterator[Finding]:
    """Compare the look-ahead form with the forms without it: phi = theta + mu v (notes 1.3, last remark)."""
    rule = RULES["nesterov"]
    settings = {"momentum": MOMENTUM}

    def look_ahead(x: float, slot: dict[str, float]) -> float:
        return x + MOMENTUM * slot["v"]

    looked, _ = run_rule(rule, rated, settings, shift=look_ahead)
    theirs, _ = run_torch("SGD", rated, momentum=MOMENTUM, nesterov=True)
    yield same("look-ahead point = torch.optim.SGD(nesterov)", theirs, looked)
    yield same("look-ahead point = form without look-ahead", without_lookahead(rated), looked)
    plain, _ = run_rule(rule, rated, settings)
    yield wrong("iterate instead of the look-ahead point", theirs, plain)
    heavy, _ = run_rule(RULES["momentum"], rated, settings)
    yield wrong("standard momentum instead of Nesterov", theirs, heavy)


def without_lookahead(rated: RatedSurface) -> Path:
    """Run phi <- phi + mu^2 v - (1 + mu) lr grad(phi), v <- mu v - lr grad(phi): the gradient is the iterate's own."""
    phi = list(rated.surface.start)
    velocity = [0.0] * len(phi)
    path = [tuple(phi)]
    for _ in range(STEPS):
        gradient = rated.surface.gradient(*phi)
        for i, g in enumerate(gradient):
            phi[i] += MOMENTUM * MOMENTUM * velocity[i] - (1 + MOMENTUM) * rated.lr * g
            velocity[i] = MOMENTUM * velocity[i] - rated.lr * g
        path.append(tuple(phi))
    return path


DECAY = 0.01


def compare_weight_decay(rated: RatedSurface) -> Iterator[Finding]:
    """Compare L2 in the gradient with decay of the weights: one thing for SGD, another for Adam and for momentum."""
    lr = rated.lr
    l2_sgd, _ = run_torch("SGD", rated, weight_decay=DECAY)
    decoupled, _ = run_rule(RULES["sgd"], rated, {}, decay=lr * DECAY)
    yield same("SGD: L2 = decay", l2_sgd, decoupled)
    notes, _ = run_rule(RULES["adamw"], rated, {"weight_decay": lr * DECAY})
    library, _ = run_torch("AdamW", rated, weight_decay=DECAY)
    yield same("AdamW of the notes with lambda = lr x lambda of the library", library, notes)
    l2_adam, used = run_torch("Adam", rated, weight_decay=DECAY)
    ours, _ = run_rule(RULES["adam_l2"], rated, {"weight_decay": DECAY}, gradients=used)
    yield same("Adam with L2 = torch.optim.Adam(weight_decay)", l2_adam, ours)
    yield different("Adam: L2 against decay", library, l2_adam)
    l2_momentum, _ = run_torch("SGD", rated, momentum=MOMENTUM, weight_decay=DECAY)
    decayed, _ = run_rule(RULES["momentum"], rated, {"momentum": MOMENTUM}, decay=lr * DECAY)
    yield different("SGD with momentum: L2 against decay", l2_momentum, decayed)
    twice, _ = run_rule(RULES["adamw"], rated, {"weight_decay": lr * DECAY * (1 + 1e-6)})
    yield wrong("lambda a millionth larger", library, twice)
    yield wrong("Adam: L2 taken for decay", library, l2_adam)


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


def compare_with_twin(name: str, rated: RatedSurface) -> Iterator[Finding]:
    """Compare a rule with torch.optim's, both on the gradients of torch's path: rounding near zero cannot grow."""
    kind, options = TWINS[name]
    theirs, gradients = run_torch(kind, rated, **options)
    ours, _ = run_rule(RULES[name], rated, {}, gradients=gradients)
    options_text = ", ".join(f"{key}={value}" for key, value in options.items())
    yield same(f"{name} = torch.optim.{kind}({options_text})", theirs, ours)
    nudged = RatedSurface(rated.surface, rated.lr * (1 + 1e-9))
    changed, _ = run_rule(RULES[name], nudged, {}, gradients=gradients)
    yield wrong(f"{name} at a rate a billionth larger", theirs, changed)


momentum_cases = partial(on_every_surface, compare_momentum)
nesterov_cases = partial(on_every_surface, compare_nesterov)
weight_decay_cases = partial(on_every_surface, compare_weight_decay)


def parity_cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield every rule that torch.optim has too."""
    for name in TWINS:
        yield from on_every_surface(partial(compare_with_twin, name), request, name)
