"""The page on the notes says what the claims say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlcv_bench.claims.claim import CLAIMS, examine
from mlcv_bench.report.claims import VERDICTS, number_row

PAGE = (Path(__file__).parents[2] / "docs" / "notes.md").read_text(encoding="utf-8")
PARTS = {part.partition(":")[0]: part for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]}

REMARKS = {
    "1.1 spheres": ("no-direction", "sphere"),
    "1.1 canyons": ("canyon-oscillation", "canyon-lr", "canyon-loss-hides"),
    "1.1 local minima": ("critical-points",),
    "1.2 one step on quadratics": ("one-step",),
    "1.2 memory and time of the Hessian": ("cost",),
    "1.3 poor conditioning": ("conditioning",),
    "1.3 variance": ("low-pass",),
    "1.3 the gradient at theta is obsolete": ("obsolete-gradient",),
    "1.3 no gradient at theta + mu v": ("no-lookahead",),
    "1.4 the landscape cannot be seen": ("landscape",),
    "1.4 AdaGrad's s only grows": ("adagrad-monotone", "adagrad-stops"),
    "1.4 RMSProp fast at first": ("rmsprop",),
    "1.4 Adam's ratio is bounded": ("adam-bound",),
    "1.4 unrelated parameters": ("adam-axis",),
    "1.4 Nesterov better than Adam": ("nesterov-beats-adam", "nesterov-beats-adam-on-mnist"),
    "1.4 large basins": ("large-basins",),
    "1.4 L2 is not weight decay": ("adamw",),
    "2.1 decision components": (),
    "2.2 starts as the identity": ("identity",),
    "2.2 batch normalization": ("batch-norm",),
    "2.2 skip before the ReLU": ("skip-before-relu",),
    "2.3 split, transform, merge": ("split-transform-merge",),
    "2.3 less expressive": ("less-expressive",),
    "2.3 branching is not grouping": ("branching",),
    "2.3 d from G": ("width",),
    "2.3 similar to a bottleneck": ("like-bottleneck",),
}
"""The paragraphs that the notes label as remarks, and what tests each."""


def test_every_labelled_remark_but_one_has_a_claim():
    assert len(REMARKS) == 26
    assert [remark for remark, names in REMARKS.items() if not names] == ["2.1 decision components"]
    for remark, names in REMARKS.items():
        assert {f"{remark[:3]}-{name}" for name in names} <= set(CLAIMS)


def test_every_claim_is_on_the_page_in_order():
    assert list(PARTS) == list(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.id)
def test_remark_verdict_and_command(claim):
    part = PARTS[claim.id]
    assert part.startswith(f"{claim.id}: {VERDICTS[claim.expected]}\n")
    assert f"> {claim.remark}" in part
    assert f"`mlcv-bench claims --id {claim.id}`" in part


@pytest.mark.parametrize("name", ["1.1-sphere", "1.4-adam-debias", "2.1-cheap", "2.2-bottleneck", "2.3-width"])
def test_the_numbers_are_those_of_the_experiment(name):
    result = examine(CLAIMS[name])
    rows = [line for line in PARTS[name].splitlines() if line.startswith("| ")][1:]
    assert result.evidence is not None
    assert len(rows) == len(result.evidence.quantities)
    for line, one in zip(rows, result.evidence.quantities, strict=True):
        row = number_row(result, one)
        assert row["quantity"].replace("|", "\\|") in line
        if abs(one.measured) > 1e-9:
            assert f"| {one.measured:.6g} |" in line


def test_verdicts_can_be_worked_out_from_the_printed_numbers():
    for name, part in PARTS.items():
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in part.splitlines() if line.startswith("| ")][1:]
        met = {cells[6].strip() for cells in rows}
        if "no" in met:
            verdict = "does_not_hold"
        elif "open" in met:
            verdict = "not_decided"
        else:
            limits = any(cells[0].strip().startswith("limit: ") for cells in rows)
            verdict = "holds_with_limit" if limits else "holds"
        assert CLAIMS[name].expected == verdict, name
