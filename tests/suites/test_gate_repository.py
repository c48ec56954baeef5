"""The exact part of benchmarks/gate_repository.py: every change of a package is found, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from mlcv_bench.cli.app import run
from mlcv_bench.comparing.baseline import Baseline
from mlcv_bench.comparing.judging import Result, judge
from mlcv_bench.comparing.limits import Entry

ROOT = Path(__file__).parents[2]
FIRST = {
    "nothing": (None, None),
    "+1 parameter": ("bigger", "has other parameters, by name or shape; with its own weights it computes the same"),
    "a lost layer": ("smaller", "has other parameters, by name or shape; and computes otherwise"),
    "an activation changed in a neighbouring file": ("other operators", "computes otherwise"),
    "other numbers": (None, "computes otherwise"),
    "weights initialised otherwise": (
        None,
        "has weights initialised otherwise; with equal weights it computes the same",
    ),
}


@pytest.fixture(scope="module")
def repository():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("gate_repository", ROOT / "benchmarks" / "gate_repository.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["gate_repository"] = module  # dataclasses look it up
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        del sys.modules["gate_repository"]


def measured(repository, change, folder):
    """Return both entries' documents after a change; the copy's place is no part of the network's name."""
    repository.write(folder)
    change.make(folder)
    documents = {}
    for entry, words in (("cost", ["flops"]), ("same", ["verify", "--fingerprint"])):
        saved = folder / f"{entry}.json"
        place = f"{folder / 'visnet' / 'model.py'}:net"
        assert run([*words, place, "--input", "3x8x8", "-q", "--format", "json", "-o", str(saved)]) == 0
        documents[entry] = json.loads(saved.read_text().replace(place, "net"))
    return documents


@pytest.fixture(scope="module")
def baseline(repository, tmp_path_factory):
    documents = measured(repository, repository.CHANGES[0], tmp_path_factory.mktemp("base") / "repository")
    return Baseline(Path("base.json"), documents)


@pytest.mark.parametrize("words", FIRST)
def test_a_change_is_found_for_what_it_is(repository, baseline, tmp_path, words):
    change = next(change for change in repository.CHANGES if change.words == words)
    documents = measured(repository, change, tmp_path / "repository")
    limits = ("cost", "must_match_baseline"), ("same", "must_compute_same")
    for (entry, limit), first in zip(limits, FIRST[words], strict=True):
        (check,) = judge(Result(Entry(entry, ("it",), {limit: True}), 0, documents[entry]), baseline)
        assert check.verdict == ("pass" if first is None else "fail"), check.reason
        if first is not None:
            found = check.differences[0]
            assert first in (found.reason or found.direction)


def test_every_exact_change_is_tried_here(repository):
    exact = [change.words for change in repository.CHANGES if change.suite == "exact" and change.code in {0, 1}]
    assert exact == list(FIRST)
