"""The claims that train: what they make of the runs, shown on made-up runs and on tiny real ones."""

from __future__ import annotations

import dataclasses
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from mlcv_bench.claims import trained
from mlcv_bench.claims.claim import CLAIMS, examine

NESTEROV, DEEP, GROUPS = LONG = ("1.4-nesterov-beats-adam", "2.2-deep", "2.3-more-groups")


def ahead(build, trial):
    """Tell whether a run belongs to the side that the remark favours."""
    if build.func is trained.small_resnext:
        return build.keywords["groups"] == 8
    deep = build.keywords["blocks"] == 9
    return (deep and build.keywords["skip"]) if "skip" in build.keywords else trial.optimizer == "nesterov"


def made_up(gain, scatter):
    """Return a stand-in for training: the favoured side is ahead by `gain`, plus or minus `scatter`, seed by seed."""

    def train(build, trial, seed, epochs):
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

    def train(build, trial, seed, epochs):
        return SimpleNamespace(train_loss=1 - (0.3 + 0.1 * (-1) ** seed) * build.keywords["skip"])

    monkeypatch.setattr(trained, "train", train)
    gap, added = CLAIMS[DEEP].experiment()().quantities
    assert (gap.met, added.met) == (True, False)


@pytest.mark.parametrize("name", LONG)
def test_both_sides_tune_inside_every_seed_on_equal_budgets(name, monkeypatch):
    asked = {}

    def train(build, trial, seed, epochs):
        side = (str(build), trial.optimizer)
        asked.setdefault(side, {}).setdefault(seed, []).append((trial, epochs))
        return made_up(0.3, 0.1)(build, trial, seed, epochs)

    monkeypatch.setattr(trained, "train", train)
    seeds, differences = examine(CLAIMS[name]).evidence.scene
    assert [len(line.y) for line in seeds.lines] == [trained.REPLICAS] * 2
    assert all(one.interval for one in differences.bars.values())
    assert len(asked) == (4 if name == DEEP else 2)
    for seeds in asked.values():
        assert set(seeds) == set(range(trained.REPLICAS))
        assert {len(tried) for tried in seeds.values()} == {8 if name == NESTEROV else 3}
        assert len({epochs for tried in seeds.values() for _, epochs in tried}) == 1


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
    monkeypatch.setattr(trained, "train", lambda build, trial, seed, epochs: SimpleNamespace(rate=trial.rate))
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


@pytest.fixture
def small_data(monkeypatch):
    monkeypatch.setattr(trained, "TRAINING", 96)


@pytest.mark.usefixtures("small_data")
def test_a_seed_draws_split_order_and_first_weights():
    one, other = (trained.train(TINY, trained.TrainingSettings("nesterov", 0.1), seed, 1) for seed in (0, 1))
    again = trained.train(TINY, trained.TrainingSettings("nesterov", 0.1), 0, 1)
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


@pytest.mark.usefixtures("small_data")
def test_training_learns_and_a_rate_beyond_reason_diverges():
    learnt = trained.train(TINY, trained.TrainingSettings("nesterov", 0.1), 0, 8)
    assert learnt.train_loss < 1.5  # guessing among ten costs 2.30, and misreads 90%
    assert learnt.test_error < 70
    spoilt = trained.train(TINY, trained.TrainingSettings("momentum", 1e30), 0, 2)
    assert spoilt.train_loss == spoilt.validation_loss == float("inf")


@pytest.mark.usefixtures("small_data")
def test_rounding_does_not_change_what_is_printed(monkeypatch):
    """What two processors differ by at the start, and more, is far below a printed digit after training."""
    trial = trained.TrainingSettings("nesterov", 0.1)
    exact = trained.train(TINY, trial, 0, 8)
    real = trained.initial

    def rounded(build, seed):
        network = real(build, seed)
        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(1 + 1e-15 * torch.randn(weight.shape, generator=noise, dtype=weight.dtype))
        return network

    monkeypatch.setattr(trained, "initial", rounded)
    moved = trained.train(TINY, trial, 0, 8)
    assert moved.train_loss != exact.train_loss
    assert moved.train_loss == pytest.approx(exact.train_loss, rel=1e-9)
    assert moved.validation_loss == pytest.approx(exact.validation_loss, rel=1e-9)
    assert moved.test_error == exact.test_error


@pytest.mark.usefixtures("small_data")
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

    def train(build, trial, seed, epochs):
        if broken == "both are nesterov":
            trial = dataclasses.replace(trial, optimizer="nesterov")
        elif broken.startswith(trial.optimizer):
            trial = dataclasses.replace(trial, rate=1e-12)
        return real(TINY, trial, seed, 4)

    monkeypatch.setattr(trained, "train", train)
    monkeypatch.setattr(trained, "REPLICAS", 4)
    monkeypatch.setattr(
        trained, "drawn_trials", lambda name, lowest, seed, count: [trained.TrainingSettings(name, 0.03)]
    )
    assert examine(CLAIMS[NESTEROV]).verdict == verdict
