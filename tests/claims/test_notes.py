"""The page on the notes says what the claims say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlcv_bench.claims.catalog import CLAIMS
from mlcv_bench.claims.claim import examine
from mlcv_bench.report.claims import VERDICTS, number_row

PAGE = (Path(__file__).parents[2] / "docs" / "notes.md").read_text(encoding="utf-8")
PARTS = {part.partition(":")[0]: part for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]}


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
    assert result.finding is not None
    assert len(rows) == len(result.finding.quantities)
    for line, one in zip(rows, result.finding.quantities, strict=True):
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
