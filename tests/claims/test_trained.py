"""The claims that train: what they make of the runs, shown on made-up runs and on tiny real ones."""

from __future__ import annotations

import dataclasses
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from mlcv_bench.claims import trained
from mlcv_bench.claims.claim import CLAIMS, examine

NESTEROV, DEEP, GROUPS = ON_DIGITS = ("1.4-nesterov-beats-adam", "2.2-deep", "2.3-more-groups")
LONG = (*ON_DIGITS, *(f"{name}-on-mnist" for name in ON_DIGITS))


def ahead(build, trial):
    """Tell whether a run belongs to the side that the remark favours."""
    settings = build.keywords
    if "groups" in settings:
        return settings["groups"] > 1
    return (settings["blocks"] > 1 and settings["skip"]) if "skip" in settings else trial.optimizer == "nesterov"


def made_up(gain, scatter):
    """Return a stand-in for training: the favoured side is ahead by `gain`, plus or minus `scatter`, seed by seed."""

    def train(build, trial, seed, epochs, sample):
        lead = (gain + scatter * (-1) ** seed) * ahead(build, trial)
        return SimpleNamespace(train_loss=1 - lead, validation_loss=abs(trial.rate - 0.03), test_error=5 - lead)

    return train


def test_every_long_claim_is_here():
    assert {claim.id for claim in CLAIMS.values() if not claim.quick} == set(LONG)


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize(
    ("gain", "scatter", "verdict", "words"),
    [
        (0.3, 0.1, "holds", "is above 0 (mean 0.3,"),
        (-0.3, 0.1, "does_not_hold", "is not above 0 (mean -0.3,"),
        (0.0, 0.0, "does_not_hold", "is not above 0 (mean 0,"),
        (0.01, 0.1, "not_decided", "is not decided: 0 lies inside (mean 0.01,"),
    ],
    ids=["as the notes say", "the sides swapped", "no effect at all", "less than the seeds scatter"],
)
def test_verdict_and_sentence_follow_the_runs(name, gain, scatter, verdict, words, monkeypatch):
    monkeypatch.setattr(trained, "train", made_up(gain, scatter))
    found = CLAIMS[name].experiment()()
    assert found.verdict == verdict
    assert words in found.explanation


def test_a_gap_that_depth_does_not_make_is_not_depths(monkeypatch):
    """A plain network that is behind at 8 layers as well fails at something else."""

    def train(build, trial, seed, epochs, sample):
        return SimpleNamespace(train_loss=1 - (0.3 + 0.1 * (-1) ** seed) * build.keywords["skip"])

    monkeypatch.setattr(trained, "train", train)
    gap, added = CLAIMS[DEEP].experiment()().quantities
    assert (gap.met, added.met) == (True, False)


@pytest.mark.parametrize("name", LONG)
def test_both_sides_tune_inside_every_seed_on_equal_budgets(name, monkeypatch):
    asked = {}

    def train(build, trial, seed, epochs, sample):
        side = (str(build), trial.optimizer)
        asked.setdefault(side, {}).setdefault(seed, []).append((trial, epochs, sample))
        return made_up(0.3, 0.1)(build, trial, seed, epochs, sample)

    monkeypatch.setattr(trained, "train", train)
    seeds, differences = examine(CLAIMS[name]).evidence.scene
    assert [len(line.y) for line in seeds.lines] == [trained.REPLICAS] * 2
    assert all(one.interval for one in differences.bars.values())
    assert len(asked) == (4 if name.startswith(DEEP) else 2)
    budgets = set()
    for seeds in asked.values():
        assert set(seeds) == set(range(trained.REPLICAS))
        budgets |= {(len(tried), epochs, sample) for tried in seeds.values() for _, epochs, sample in tried}
    ((trials, _, sample),) = budgets
    assert trials >= 3
    assert sample == (trained.DIGITS if name in ON_DIGITS else trained.MNIST)


def test_trials_are_alike_for_both_and_others_in_every_seed():
    adam, nesterov = (trained.drawn_trials(name, low, 0, 8) for name, low in (("adam", 1e-4), ("nesterov", 1e-3)))
    for one, other in zip(adam, nesterov, strict=True):
        assert dataclasses.replace(one, optimizer="nesterov", rate=other.rate) == other
        assert other.rate == pytest.approx(10 * one.rate)
        assert 0.7 <= one.momentum <= 0.97
        assert 1e-6 <= one.decay <= 1e-2
    assert [int(8 * torch.tensor(trial.rate / 1e-4).log10() / 3) for trial in adam] == list(range(8))
    assert trained.drawn_trials("adam", 1e-4, 1, 8) != adam


def test_the_best_run_is_chosen_by_what_is_asked(monkeypatch):
    monkeypatch.setattr(trained, "train", lambda build, trial, *others: SimpleNamespace(rate=trial.rate))
    trials = [trained.TrainingSettings("momentum", rate) for rate in (0.01, 0.03, 0.1)]
    chosen = trained.best(partial(dict), trials, 0, 1, lambda run: abs(run.rate - 0.012))
    assert chosen.rate == 0.01


def test_each_optimizer_is_torchs_with_all_four_settings():
    weights = [torch.nn.Parameter(torch.ones(1))]
    adam, nesterov, momentum = (
        trained.TrainingSettings(name, 0.02, 0.8, 1e-3).build(weights).param_groups[0]
        for name in ("adam", "nesterov", "momentum")
    )
    assert (adam["lr"], adam["betas"], adam["weight_decay"]) == (0.02, (0.8, 0.999), 1e-3)
    assert [(g["lr"], g["momentum"], g["weight_decay"], g["nesterov"]) for g in (nesterov, momentum)] == [
        (0.02, 0.8, 1e-3, True),
        (0.02, 0.8, 1e-3, False),
    ]


TINY = partial(trained.small_residual, blocks=1, width=4)
SMALL = dataclasses.replace(trained.DIGITS, training=96)


def test_a_seed_draws_split_order_and_first_weights():
    one, other = (trained.train(TINY, trained.TrainingSettings("nesterov", 0.1), seed, 1, SMALL) for seed in (0, 1))
    again = trained.train(TINY, trained.TrainingSettings("nesterov", 0.1), 0, 1, SMALL)
    assert (again.train_loss, again.validation_loss, again.test_error) == (
        one.train_loss,
        one.validation_loss,
        one.test_error,
    )
    assert not torch.equal(one.test, other.test)
    assert not set(one.test.tolist()) & set(one.validation.tolist())
    assert len(one.test) + len(one.validation) + 96 == 1797
    first, second = (trained.initial(TINY, seed).conv1.weight for seed in (0, 1))
    assert not torch.equal(first, first.float().double())  # drawn in double precision, where processors agree
    assert not torch.equal(first, second)
    assert torch.get_default_dtype() is torch.float32


def test_networks_on_patches_learn_from_mnist():
    build = partial(trained.on_patches, trained.small_residual, blocks=1, width=4)
    sample = trained.Sample("mnist-5k", 256, 64)
    learnt = trained.train(build, trained.TrainingSettings("nesterov", 0.1), 0, 3, sample)
    assert len(learnt.test) == 5000 - 256 - 64
    assert learnt.test_error < 80  # guessing misreads 90%
    assert learnt.network[0](torch.zeros(2, 1, 28, 28)).shape == (2, 16, 7, 7)


def test_training_learns_and_a_rate_beyond_reason_diverges():
    learnt = trained.train(TINY, trained.TrainingSettings("nesterov", 0.1), 0, 8, SMALL)
    assert learnt.train_loss < 1.5  # guessing among ten costs 2.30, and misreads 90%
    assert learnt.test_error < 70
    spoilt = trained.train(TINY, trained.TrainingSettings("momentum", 1e30), 0, 2, SMALL)
    assert spoilt.train_loss == spoilt.validation_loss == float("inf")


def test_rounding_does_not_change_what_is_printed(monkeypatch):
    """What two processors differ by at the start, and more, is far below a printed digit after training."""
    trial = trained.TrainingSettings("nesterov", 0.1)
    exact = trained.train(TINY, trial, 0, 8, SMALL)
    real = trained.initial

    def rounded(build, seed):
        network = real(build, seed)
        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(1 + 1e-15 * torch.randn(weight.shape, generator=noise, dtype=weight.dtype))
        return network

    monkeypatch.setattr(trained, "initial", rounded)
    moved = trained.train(TINY, trial, 0, 8, SMALL)
    assert moved.train_loss != exact.train_loss
    assert moved.train_loss == pytest.approx(exact.train_loss, rel=1e-9)
    assert moved.validation_loss == pytest.approx(exact.validation_loss, rel=1e-9)
    assert moved.test_error == exact.test_error


@pytest.mark.parametrize(
    ("broken", "verdict"),
    [
        ("adam stands still", "holds"),
        ("nesterov stands still", "does_not_hold"),
        ("both are nesterov", "does_not_hold"),
    ],
)
def test_broken_optimizers_change_the_verdict(broken, verdict, monkeypatch):
    """Real training, four seeds of it: a side that cannot learn loses, and two that are one do not differ."""
    real = trained.train

    def train(build, trial, seed, epochs, sample):
        if broken == "both are nesterov":
            trial = dataclasses.replace(trial, optimizer="nesterov")
        elif broken.startswith(trial.optimizer):
            trial = dataclasses.replace(trial, rate=1e-12)
        return real(TINY, trial, seed, 4, SMALL)

    monkeypatch.setattr(trained, "train", train)
    monkeypatch.setattr(trained, "REPLICAS", 4)
    monkeypatch.setattr(
        trained, "drawn_trials", lambda name, lowest, seed, count: [trained.TrainingSettings(name, 0.03)]
    )
    assert examine(CLAIMS[NESTEROV]).verdict == verdict
