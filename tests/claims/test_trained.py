"""The claims that train: what they make of the runs, shown on runs that are made up."""

from __future__ import annotations

import dataclasses

import pytest

from mlcv_bench.claims import trained
from mlcv_bench.claims.catalog import CLAIMS
from mlcv_bench.claims.claim import examine
from mlcv_bench.racing.jobs import Epoch
from mlcv_bench.surfaces.randomness import HELD_OUT

END = Epoch(18, 1.0, 0.5, 1.0, 0.5, 0.5, None, None)
LONG = [claim.id for claim in CLAIMS.values() if not claim.quick]


def ends(better, by):
    """Return a stand-in for training in which the names in `better` are ahead by so much, with a little scatter."""

    def last_epochs(model, optimizer, rate, *, epochs, seeds):
        gain = by * any(name in {model, optimizer, model.rpartition(":")[2]} for name in better)
        return [
            dataclasses.replace(
                END,
                train_loss=1.0 - gain + 0.01 * (seed % 3) * rate,
                val_loss=1.0 + abs(rate - 0.01),
                test_accuracy=0.5 + gain + 0.001 * (seed % 3) * (1 + gain),
            )
            for seed in seeds
        ]

    return last_epochs


def test_every_long_claim_is_here():
    assert set(LONG) == {"1.4-nesterov-beats-adam", "2.2-deep", "2.3-more-groups"}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize(
    ("by", "verdict"), [(0.3, "holds"), (-0.3, "does_not_hold")], ids=["as the notes say", "the other way"]
)
def test_the_verdict_follows_the_runs(name, by, verdict, monkeypatch):
    monkeypatch.setattr(trained, "last_epochs", ends({"resnet56", "resnext_16x7d", "nesterov"}, by))
    found = examine(CLAIMS[name])
    assert found.status == "done", found.reason
    assert found.verdict == verdict


@pytest.mark.parametrize("name", LONG)
def test_equal_runs_decide_nothing_in_favour(name, monkeypatch):
    monkeypatch.setattr(trained, "last_epochs", ends(set(), 0.0))
    assert examine(CLAIMS[name]).verdict != "holds"


def test_rates_are_tuned_on_seeds_of_their_own(monkeypatch):
    asked = []

    def last_epochs(model, optimizer, rate, *, epochs, seeds):
        asked.extend(seeds)
        return ends(set(), 0.0)(model, optimizer, rate, epochs=epochs, seeds=seeds)

    monkeypatch.setattr(trained, "last_epochs", last_epochs)
    rates = (0.001, 0.01, 0.1)
    assert trained.tuned_rate("m", "o", rates, trained.validation_loss, epochs=1, seeds=2) == 0.01
    assert min(asked) >= HELD_OUT


def test_the_interval_is_students():
    mean, (low, high) = trained.paired([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert mean == 2.0
    assert (low, high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5))


def test_a_training_run_is_real():
    first, again = (trained.last_epochs("mlp", "sgd", 0.1, epochs=1, seeds=[0]) for _ in range(2))
    assert first == again
    assert 0 < trained.train_loss(first[0]) < 2.3
