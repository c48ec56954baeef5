"""Every subject of the table: it passes, its controls are detected, and it is found by name."""

from __future__ import annotations

import importlib
import sys
import types

import pytest
import torch
from torch import nn

import mlcv_bench
from mlcv_bench import verify
from mlcv_bench.architectures.build import build
from mlcv_bench.comparing.differences import compare_saved
from mlcv_bench.comparing.saved import SavedResult
from mlcv_bench.counting.published import figures
from mlcv_bench.equivalence import forms, networks, study
from mlcv_bench.equivalence.request import VerifyRequest, is_pair
from mlcv_bench.equivalence.study import COLUMNS
from mlcv_bench.equivalence.subject import SUBJECTS, Case, Finding
from mlcv_bench.errors import UsageError
from mlcv_bench.records import row_of
from mlcv_bench.trials import NotApplicableError

CONTRACT = (
    *("subject", "case", "quantity", "dtype", "mode", "device", "max_abs_error", "max_rel_error", "tolerance"),
    *("control_detected", "passed", "status", "reason"),
)
SMALL = {"groups": (1, 3), "widths": (2,), "channels": (10,)}
OURS = [name for name, subject in SUBJECTS.items() if "optimizers:" not in subject.cases]


@pytest.fixture(scope="module")
def found():
    """Verify every subject once, with small blocks."""
    return {name: study.examine(VerifyRequest((name,), **SMALL), costs=False) for name in OURS}


def blocks(settings, name="resnext"):
    """Examine a subject without the whole network, which takes seconds."""
    module, _, attribute = SUBJECTS[name].cases.partition(":")
    cases = getattr(importlib.import_module(module), attribute)(settings)
    return list(study.examined(name, [case for case in cases if "resnext50" not in case.name], settings))


@pytest.mark.parametrize("name", OURS)
def test_a_saved_result_can_be_compared_with_itself(name, found):
    """Every row has settings of its own, by which `compare` and a suite's baseline know it again."""
    rows = [row_of(record) for record in found[name].records]
    saved = SavedResult("a.json", "verify", rows, {})
    verdict = compare_saved(saved, saved)
    assert verdict.matched == len(rows) > 0
    assert {one.change for one in verdict.differences} <= {"same"}


@pytest.mark.parametrize("name", OURS)
def test_subject_passes(name, found):
    assert not [(record.case, record.quantity, record.reason) for record in found[name].failures]


@pytest.mark.parametrize("name", [name for name in OURS if name != "torchvision"])
def test_every_quantity_type_and_mode_has_a_control(name, found):
    records = found[name].records
    controls = found[name].controls
    assert controls
    assert all(record.control_detected for record in controls)
    judged = {(record.dtype, record.mode) for record in records if record.passed is not None}
    assert judged - {(None, None)} <= {(record.dtype, record.mode) for record in controls} | {("float32", "eval")}


def test_exact_checks_are_exact_and_bounded(found):
    exact = [record for record in found["resnext"].records if record.proof == "exact" and record.largest_sum]
    assert len(exact) == 2 * 3 * 2 * 3  # G, shapes, pairs of forms, quantities
    assert all(record.max_abs_error == 0 and record.largest_sum < 2.0**53 for record in exact)


def test_resnext_compares_all_it_promises(found):
    records = [record for record in found["resnext"].records if record.proof == "rounding"]
    seen = {(record.quantity, record.dtype, record.mode) for record in records}
    for dtype in ("float64", "float32"):
        for quantity in ("output", "input gradient", "weight gradients"):
            assert {(quantity, dtype, "train"), (quantity, dtype, "eval")} <= seen
        assert ("batch-norm statistics", dtype, "train") in seen
        assert ("logits", dtype, "eval") in seen
    cases = {record.case for record in records}
    assert {"stride=1 identity", "stride=1 projection", "stride=2 projection"} <= {
        words
        for words in ("stride=1 identity", "stride=1 projection", "stride=2 projection")
        for c in cases
        if words in c
    }
    assert max(record.max_rel_error for record in records if record.dtype == "float64") <= 1e-12


def test_the_same_seed_gives_the_same_records_and_another_seed_others():
    one, again, other = (verify("projection", seed=seed, costs=False, **SMALL).records for seed in (0, 0, 1))
    assert one == again
    assert [record.max_abs_error for record in one] != [record.max_abs_error for record in other]


def test_trials_count_seeds_up():
    found = verify("folding", seed=5, trials=2, dtypes=("float64",))
    assert {record.seed for record in found.records} == {5, 6}
    assert found.passed


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", [name for name, subject in SUBJECTS.items() if "dtypes" in subject.uses])
def test_short_formats_pass_on_request(name, dtype):
    settings = VerifyRequest(dtypes=(dtype,), groups=(2,), widths=(4,), channels=(32,))
    records = blocks(settings, name)
    assert not [(record.case, record.quantity, record.reason) for record in records if record.passed is False]
    assert {record.status for record in records} <= {"done", "skipped"}
    assert all("ReLU" in record.reason for record in records if record.status == "skipped")
    assert any(record.dtype == dtype and record.passed for record in records)


def test_contract_columns():
    assert COLUMNS[: len(CONTRACT)] == CONTRACT


def test_public_api():
    assert mlcv_bench.equivalence.transplant is not None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (VerifyRequest(groups=(0,)), "--groups"),
        (VerifyRequest(widths=(0,)), "--width"),
        (VerifyRequest(channels=(0,)), "--channels"),
        (VerifyRequest(dtypes=("float23",)), "did you mean float32"),
        (VerifyRequest(modes=("training",)), "--mode"),
        (VerifyRequest(groups=()), "--groups names no number"),
        (VerifyRequest(dtypes=()), "--dtype names none"),
    ],
)
def test_settings_that_nothing_can_use_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        settings.check()


def test_the_order_of_the_types_decides_nothing():
    # Cast to a coarse type first, a folded kernel would keep its rounding in the finer one.
    for dtypes in (("float32", "float64"), ("bfloat16", "float16")):
        found = verify("folding", dtypes=dtypes)
        assert found.passed
        assert {record.dtype for record in found.records} == {"float64", *dtypes}


def test_rows_tell_where_they_were_computed(monkeypatch):
    monkeypatch.setattr(study, "device_of", lambda _name: torch.device("cpu"))
    monkeypatch.setattr(networks, "figures", lambda: figures()[:3])
    found = study.examine(VerifyRequest(("momentum", "published"), "cuda"))
    assert {record.device for record in found.records} == {"cpu"}


@pytest.mark.parametrize(("device", "words"), [("meta", "no numbers"), ("nonsense", "cannot be used here")])
def test_devices_that_cannot_compute_are_refused(device, words):
    with pytest.raises(UsageError, match=words):
        study.device_of(device)


def test_names():
    assert VerifyRequest(("all",)).names() == list(SUBJECTS)
    assert VerifyRequest(("folding", "all")).names()[0] == "folding"
    assert not is_pair(["resnext", "folding"])
    assert is_pair(["resnet18", "resnet34"])
    assert is_pair(["a.py:f", "b.py:g"])
    with pytest.raises(UsageError, match="did you mean resnext"):
        verify("resnxt")
    with pytest.raises(UsageError, match="no subject"):
        verify()
    with pytest.raises(UsageError, match="two networks"):
        verify("folding", transplant=dict)


def test_a_case_that_breaks_costs_no_other():
    def breaks():
        yield Finding("a", "output", "exact", passed=True)
        raise RuntimeError("broken\nin two lines")

    def makes_no_sense():
        raise NotApplicableError("no groups")

    records = list(study.examined("s", [Case("one", breaks), Case("two", makes_no_sense)], VerifyRequest()))
    assert [(record.case, record.status, record.reason) for record in records] == [
        ("one: a", "done", ""),
        ("one", "failed", "RuntimeError: broken"),
        ("two", "skipped", "no groups"),
    ]


def test_an_interruption_keeps_what_was_found(monkeypatch):
    def cases(settings):
        del settings
        yield Case("first", lambda: iter([Finding("a", "output", "exact", passed=True)]))
        yield Case("second", interrupted)

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "_subjects", lambda _request: [("s", cases)])
    found = verify("folding", costs=False)
    assert found.interrupted
    assert [record.case for record in found.records] == ["first: a"]


def test_torchvision_is_skipped_with_the_reason_where_it_does_not_import(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    records = verify("torchvision", costs=False).records
    assert records
    assert all(record.status == "skipped" and "torchvision" in record.reason for record in records)
    assert not verify("torchvision", costs=False).passed


def test_torchvision_is_compared_where_it_imports(monkeypatch):
    ours = {"resnet18": lambda **_: build("resnet18"), "resnet34": lambda **_: build("resnet34", skip_after_relu=True)}
    fake = types.ModuleType("torchvision")
    fake.models = types.SimpleNamespace(list_models=lambda: list(ours), get_model_builder=ours.get)
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    records = list(study.examined("torchvision", networks.torchvision_cases(VerifyRequest()), VerifyRequest()))
    by_case = {record.case: record for record in records}
    assert by_case["resnet18: ours = torchvision's"].passed is True
    assert by_case["resnet18: one weight nudged"].control_detected is True
    assert by_case["resnet34: ours = torchvision's"].passed is False
    assert by_case["vgg16"].status == "skipped"


def test_costs_of_the_forms_by_a_clock_of_our_own():
    ticks = iter(range(0, 10**12, 1_000_000))
    settings = VerifyRequest(groups=(2,), widths=(4,), channels=(8,))
    clock = types.SimpleNamespace(wall_ns=lambda: next(ticks), synchronise=lambda: None)
    costs = list(forms.form_costs(settings, rounds=3, clock=clock))
    assert [cost.form for cost in costs] == ["branches", "concat", "grouped"]
    assert {cost.median_s for cost in costs} == {0.001}
    assert len({cost.macs for cost in costs}) == 1
    weights = 2 * 8 * 8 + 9 * 2 * 16
    assert all(cost.params == weights + 2 * (8 + 8 + 8) for cost in costs)
    # Convolutions put out G d + G d + C channels in the grouped form, and C for each branch in the branches form.
    assert [cost.activation_bytes // 4 // 56**2 for cost in costs] == [8 + 8 + 16, 8 + 8 + 8, 8 + 8 + 8]
    assert [cost.operators for cost in costs] == [18, 16, 10]


def test_one_group_is_a_bottleneck():
    settings = VerifyRequest(groups=(1,), widths=(4,), channels=(8,), dtypes=("float64",))
    records = blocks(settings)
    assert records
    assert not any(record.passed is False for record in records)
    assert not any(record.comparison == "two groups swapped" for record in records)


def test_modules_are_left_as_they_are():
    first, second = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 1)
    before = [first.weight.clone(), second.weight.clone()]
    assert verify(first, second, input=(2, 4, 4)).passed
    assert torch.equal(first.weight, before[0])
    assert torch.equal(second.weight, before[1])
