"""Every quick claim reaches its recorded verdict, and none would if the rule or the surface behind it were broken."""

# ruff: noqa: PLR0913, PLR0917 - the signature of a rule is its schema

from __future__ import annotations

import dataclasses
import itertools
from contextlib import contextmanager
from functools import cache

import pytest

from mlcv_bench.claims import momentum as momentum_claims
from mlcv_bench.claims import paths
from mlcv_bench.claims.claim import CLAIMS, examine
from mlcv_bench.optimizers.rule import RULES, read
from mlcv_bench.random_streams import GOLDEN, mix
from mlcv_bench.surface_race import floats as scalar
from mlcv_bench.surface_race import program
from mlcv_bench.surfaces import builtin, finite_sum, newton
from mlcv_bench.surfaces.surface import Surface

CHAPTER = [claim for claim in CLAIMS.values() if claim.quick and claim.section.startswith("1")]


@cache
def examined(name):
    return examine(CLAIMS[name])


@pytest.mark.parametrize("claim", CHAPTER, ids=lambda claim: claim.id)
def test_verdict(claim):
    found = examined(claim.id)
    assert found.status == "done", found.reason
    assert found.verdict == claim.expected, found.evidence
    assert found.evidence.scene


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("1.1-canyon-lr", "until the loss is 1e20", 6),
        ("1.2-saddle", "attracts Newton", 0.4472136),
        ("1.3-faster", "tuned, kappa = 100", 691),
        ("1.3-faster", "heavy ball to 1e-6, tuned", 93),
        ("1.3-faster", "eta = 0.1: steps of gradient descent", 66),
        ("1.3-faster", "eta = 0.1: steps of heavy ball", 83),
        ("1.3-faster", "up to which heavy ball contracts faster", 0.0513167),
        ("1.3-nesterov", "up to which it does", 1.333034),
        ("1.3-nesterov", "up to which Nesterov converges", 1.357143),
        ("1.3-nesterov", "up to which heavy ball converges", 3.8),
        ("1.3-nesterov", "Nesterov, which diverges", float("inf")),
        ("1.3-nesterov", "there: heavy ball", 121),
        ("1.3-weighted-average", "the weights' sum", 10),
        ("1.4-adam-bound", "growing by b2/b1", 7.2703),
    ],
)
def test_recorded_values(name, words, value):
    """Right values that were worked out apart from the code, by hand or by other runs."""
    finding = examined(name).evidence
    (one,) = [one for one in finding.quantities if words in one.name][:1]
    assert one.measured == pytest.approx(value, rel=2e-4)
    assert one.predicted == pytest.approx(value, rel=2e-4)


def replaced(name, function):
    """Return a context in which the rule `name` is another function with the same signature."""

    @contextmanager
    def broken(monkeypatch):
        function.__name__ = name
        rule = dataclasses.replace(read(function), name=name, lookahead=RULES[name].lookahead)
        monkeypatch.setitem(RULES, name, rule)
        yield

    return broken


def patched(owner, name, wrong):
    """Return a context in which an attribute is something else."""

    @contextmanager
    def broken(monkeypatch):
        monkeypatch.setattr(owner, name, wrong(getattr(owner, name)))
        yield

    return broken


def half_step(x, g, t, lr=0.01):
    return x - 0.5 * lr * g


def sign_step(x, g, t, lr=0.01):
    return x - lr * g / ((g * g) ** 0.5 + 1e-30)


def forgetful_momentum(x, g, t, v, lr=0.01, momentum=0.9):
    v = 0.0 * momentum * v - lr * g
    return x + v, v


def damped_momentum(x, g, t, v, lr=0.01, momentum=0.9):
    v = momentum * v - (1 - momentum) * lr * g
    return x + v, v


def eager_momentum(x, g, t, v, lr=0.01, momentum=0.9):
    v = momentum * v - lr * g
    return x + momentum * v - lr * g, v


def growing_nesterov(x, g, t, v, lr=0.01, momentum=0.9):
    v = momentum * v - 0.5 * lr * g
    return x + v, v


def adagrad_mean(x, g, t, s, lr=0.01, eps=1e-8):
    s = s + g * g
    return x - lr / ((s / t) ** 0.5 + eps) * g, s


def adagrad_average(x, g, t, s, lr=0.01, eps=1e-8):
    s = 0.9 * s + 0.1 * g * g
    return x - lr / (s**0.5 + eps) * g, s


def rmsprop_plain(x, g, t, s, lr=0.01, beta=0.9, eps=1e-8):
    s = beta * s + (1 - beta) * g * g
    return x - lr * g / (1 + eps), s


def rmsprop_usual(x, g, t, s, lr=0.01, beta=0.9, eps=1e-8):
    s = 0.9 * s + 0.1 * g * g + 0 * beta
    return x - lr * g / (s**0.5 + eps), s


def adam_biased(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    return x - lr * m / (s**0.5 + eps), m, s


def adam_unrooted(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    return x - lr * m / (s + 1.0 + eps), m, s


def adam_spiky(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + 0.5 * (1 - beta2) * g * g
    return x - lr * (m / (1 - beta1**t)) / ((s / (1 - beta2**t)) ** 0.5 + eps), m, s


def adam_l2_decoupled(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    return x - lr * (m / (1 - beta1**t)) / ((s / (1 - beta2**t)) ** 0.5 + eps) - lr * weight_decay * x, m, s


def adamw_scaled(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-5):
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    return x - lr * (m / (1 - beta1**t)) / ((s / (1 - beta2**t)) ** 0.5 + eps) - lr * weight_decay * x, m, s


def newton_short(x, newton_direction, t, lr=1.0, damping=0.0):
    return x - 0.9 * lr * newton_direction


def with_replacement(real):
    """Draw batches that may see a sample twice in an epoch."""

    def draw(surface, seed, start, steps):
        count = len(surface.finite_sum.samples)
        return [
            tuple((i * i + 3 * step) % count for i in batch)
            for step, batch in enumerate(real(surface, seed, start, steps))
        ]

    return draw


def same_batch(real):
    """Draw the first batch over and over."""
    return lambda surface, seed, start, steps: [real(surface, 0, 0, 1)[0]] * steps


def untilted(real):
    """A washboard of half the slope."""
    return lambda force=0.2, amplitude=1.0: real(force=force / 2, amplitude=amplitude)


def round_canyon(real):
    """A canyon of condition 1."""
    return lambda condition=100.0: real(1.0 + 0.0 * condition)


MUTATIONS = {
    "1.1-epoch": patched(finite_sum, "batches", with_replacement),
    "1.1-noise": patched(scalar, "batches", same_batch),
    "1.1-sphere": replaced("sgd", half_step),
    "1.1-canyon-oscillation": replaced("sgd", half_step),
    "1.1-canyon-loss-hides": replaced("sgd", half_step),
    "1.1-canyon-lr": patched(builtin, "canyon", round_canyon),
    "1.1-critical-points": replaced("sgd", half_step),
    "1.2-parabola": patched(
        newton.Parabola, "__call__", lambda real: lambda self, x: real(self, x) + (x - self.x) ** 2
    ),
    "1.2-one-step": replaced("newton", newton_short),
    "1.2-saddle": replaced("newton", lambda x, newton_direction, t, lr=1.0, damping=0.0: x + lr * newton_direction),
    "1.3-faster": replaced("momentum", forgetful_momentum),
    "1.3-conditioning": replaced("momentum", forgetful_momentum),
    "1.3-weighted-average": replaced("momentum", eager_momentum),
    "1.3-low-pass": replaced("momentum", damped_momentum),
    "1.3-nesterov": replaced("nesterov", growing_nesterov),
    "1.3-no-lookahead": replaced("nesterov", growing_nesterov),
    "1.4-adaptive": replaced("adam", adam_unrooted),
    "1.4-adagrad-monotone": replaced("adagrad", adagrad_average),
    "1.4-adagrad-stops": replaced("adagrad", adagrad_mean),
    "1.4-rmsprop": replaced("rmsprop", rmsprop_plain),
    "1.4-adam-debias": replaced("adam", adam_biased),
    "1.4-adam-bound": replaced("adam", adam_spiky),
    "1.4-adam-axis": replaced(
        "adam", lambda x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8: (x - lr * g, m, s)
    ),
    "1.4-large-basins": patched(builtin, "washboard", untilted),
    "1.4-adamw": replaced("adam_l2", adam_l2_decoupled),
    "1.4-adamw-forms": replaced("adamw", adamw_scaled),
}
"""A claim and what breaks it: none is without."""


def epochs_of(draw):
    """Return a stand-in for `finite_sum.batches`: `draw(order, N, B, epoch)` gives an epoch's batches.

    The order is that of all epochs, one after the other.
    """

    def wrong(real):
        def batches(surface, seed, start, steps):
            found, epoch = [], 0
            order = list(itertools.chain(*real(surface, seed, start, 2 * steps)))
            while len(found) < steps:
                found += draw(order, len(surface.finite_sum.samples), surface.finite_sum.batch_size, epoch)
                epoch += 1
            return found[:steps]

        return batches

    return patched(finite_sum, "batches", wrong)


def slices(order, size):
    return [tuple(order[first : first + size]) for first in range(0, len(order), size)]


def engine_averages(count):
    """Return a context in which the engine divides a batch's summed gradient by something else."""

    def wrong(real):
        return lambda surface, name: dataclasses.replace(real(surface, name), count=count)

    return patched(program, "listed", wrong)


def newton_unscaled(x, newton_direction, t, lr=1.0, damping=0.0):
    return x - newton_direction


def diagonal_alone(real):
    """Solve with the diagonal of the Hessian alone: O(k) operations."""
    return lambda hessian, gradient, damping=0.0: tuple(
        g / (row[i] + damping) for i, (row, g) in enumerate(zip(hessian, gradient, strict=True))
    )


def diagonal_kept(real):
    """Keep the Hessian's diagonal: k numbers."""
    return property(lambda self: lambda *point: tuple((row[i],) for i, row in enumerate(real.func(self)(*point))))


def classical_for_nesterov(x, v, momentum=0.9):
    return x


def worst_of_two(real):
    """Heavy ball's best momentum without its square."""
    return lambda rule, surface: {
        name: value**0.5 if name == "momentum" else value for name, value in real(rule, surface).items()
    }


def nesterov_of(query):
    """Return a context in which Nesterov's look-ahead is another one."""

    @contextmanager
    def broken(monkeypatch):
        monkeypatch.setitem(RULES, "nesterov", dataclasses.replace(RULES["nesterov"], lookahead=query))
        yield

    return broken


def inside_the_root(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    return x - lr * (m / (1 - beta1**t)) / ((s / (1 - beta2**t) + eps) ** 0.5), m, s


def before_debiasing(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    return x - lr * (m / (1 - beta1**t)) * (1 - beta2**t) ** 0.5 / (s**0.5 + eps), m, s


def adagrad_rooted(x, g, t, s, lr=0.01, eps=1e-8):
    s = s + g * g
    return x - lr / (s + eps) ** 0.5 * g, s


def rmsprop_summed(x, g, t, s, lr=0.01, beta=0.9, eps=1e-8):
    s = beta * s + g * g
    return x - lr / (s**0.5 + eps) * g, s


def adam_fast_first(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + g
    s = beta2 * s + (1 - beta2) * g * g
    return x - lr * (1 - beta1) * (m / (1 - beta1**t)) / ((s / (1 - beta2**t)) ** 0.5 + eps), m, s


def adam_counted_from_two(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    return x - lr * (m / (1 - beta1 ** (t + 1))) / ((s / (1 - beta2 ** (t + 1))) ** 0.5 + eps), m, s


def adamw_decaying_after(x, g, t, m, s, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    x = x - lr * (m / (1 - beta1**t)) / ((s / (1 - beta2**t)) ** 0.5 + eps)
    return x - lr * weight_decay * x, m, s


def one_cycle(real):
    """Sattolo's shuffle: every sample moves, so that the order is one cycle."""

    def shuffled(stream, size):
        order = list(range(size))
        for i in range(size - 1, 0, -1):
            j = mix(stream + i * GOLDEN) % i
            order[i], order[j] = order[j], order[i]
        return order

    return shuffled


NOTICED = {
    "a shuffle that moves every sample": ("1.1-epoch", patched(finite_sum, "shuffled", one_cycle)),
    "Adam's steps counted from two": ("1.4-adam-debias", replaced("adam", adam_counted_from_two)),
    "AdamW's decay after the step": ("1.4-adamw-forms", replaced("adamw_torch", adamw_decaying_after)),
    "Adam's epsilon inside the root": ("1.4-epsilon", replaced("adam", inside_the_root)),
    "Adam's epsilon before debiasing": ("1.4-epsilon", replaced("adam", before_debiasing)),
    "AdaGrad's epsilon inside the root": ("1.4-epsilon", replaced("adagrad", adagrad_rooted)),
    "RMSProp's sum for an average": ("1.4-adam-bound", replaced("rmsprop", rmsprop_summed)),
    "Adam's first average unscaled": ("1.4-adam-debias", replaced("adam", adam_fast_first)),
    "a quadratic of one curvature": (
        "1.4-landscape",
        patched(builtin, "quadratic", lambda real: lambda n, k: real(n, 1.0)),
    ),
    "Adam's rates shared": ("1.4-landscape", replaced("adam", adam_unrooted)),
    "AdaGrad averaging over the steps": ("1.4-adagrad-monotone", replaced("adagrad", adagrad_mean)),
    "an average for momentum's sum": ("1.3-weighted-average", replaced("momentum", damped_momentum)),
    "Nesterov without its look-ahead": ("1.3-obsolete-gradient", nesterov_of(classical_for_nesterov)),
    "Nesterov looking back": ("1.3-nesterov", nesterov_of(lambda x, v, momentum=0.9: x - momentum * v)),
    "Nesterov looking a whole step ahead": ("1.3-no-lookahead", nesterov_of(lambda x, v, momentum=0.9: x + v)),
    "momentum that takes its gradient twice": ("1.3-faster", replaced("momentum", eager_momentum)),
    "theory's best momentum without its square": (
        "1.3-faster",
        patched(momentum_claims, "best_settings", worst_of_two),
    ),
    "momentum forgotten twice a step": (
        "1.3-low-pass",
        replaced("momentum", lambda x, g, t, v, lr=0.01, momentum=0.9: (x + v, momentum * momentum * v - lr * g)),
    ),
    "the notes' loop u = 0..U, an empty step": (
        "1.1-epoch",
        epochs_of(lambda order, n, b, epoch: [*slices(order[n * epoch : n * epoch + n], b), ()]),
    ),
    "no shuffle": ("1.1-epoch", epochs_of(lambda order, n, b, epoch: slices(range(n), b))),
    "the same order in every epoch": ("1.1-epoch", epochs_of(lambda order, n, b, epoch: slices(order[:n], b))),
    "a turn for a shuffle": (
        "1.1-epoch",
        epochs_of(lambda order, n, b, epoch: slices([(i + epoch + 1) % n for i in range(n)], b)),
    ),
    "U by floor": (
        "1.1-epoch",
        epochs_of(lambda order, n, b, epoch: slices(order[n * epoch : n * epoch + n - n % b], b)),
    ),
    "a gradient summed over its batch": ("1.1-epoch", engine_averages("1.0")),
    "the short batch divided by B": ("1.1-epoch", engine_averages("max(20, len(batch))")),
    "a gradient summed over its batch, by its noise": ("1.1-noise", engine_averages("1.0")),
    "RMSProp at beta = 0.9, whatever is asked": ("1.4-rmsprop", replaced("rmsprop", rmsprop_usual)),
    "descent that stops before AdaGrad does": (
        "1.4-adagrad-stops",
        replaced("sgd", lambda x, g, t, lr=0.01: x - 1e-3 * lr * g),
    ),
    "momentum that is caught as often as descent": ("1.4-large-basins", replaced("momentum", forgetful_momentum)),
    "a canyon for a sphere": ("1.1-no-direction", patched(builtin, "sphere", lambda real: lambda: builtin.canyon(2.0))),
    "a rate that Newton forgets": ("1.2-learning-rate", replaced("newton", newton_unscaled)),
    "Newton's saddle, with half a step": ("1.2-saddle", replaced("newton", newton_short)),
    "a solve by the diagonal": ("1.2-cost", patched(newton, "direction", diagonal_alone)),
    "a Hessian that is its diagonal": ("1.2-cost", patched(Surface, "hessian", diagonal_kept)),
}
"""More mutations, of which each is seen by a claim that it concerns."""


def test_every_quick_claim_has_a_mutation():
    assert set(MUTATIONS) | {name for name, _ in NOTICED.values()} == {claim.id for claim in CHAPTER}


@pytest.mark.parametrize(("name", "broken"), [*MUTATIONS.items(), *NOTICED.values()], ids=[*MUTATIONS, *NOTICED])
def test_a_mutation_changes_the_verdict(name, broken, monkeypatch):
    with broken(monkeypatch):
        found = examine(CLAIMS[name])
    assert found.status == "failed" or found.verdict != CLAIMS[name].expected, found.evidence


def test_paths_use_the_rules_by_name(monkeypatch):
    with replaced("sgd", half_step)(monkeypatch):
        assert paths.path("sgd", builtin.sphere(), (1.0, 0.0), steps=1, lr=1.0).point(1) == (0.5, 0.0)
