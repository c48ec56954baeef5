"""What a release promised stays, or says for one version what took its place (docs/versions.md).

tests/golden/promised.json is what the last release promised; a release writes it anew: `python tests/test_versions.py`.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

import pytest

import mlcv_bench
from mlcv_bench import deprecations, testing
from mlcv_bench.cli.app import COMMANDS, load_command, parse, run
from mlcv_bench.comparing.limits import LIMITS
from mlcv_bench.deprecations import Renamed
from mlcv_bench.errors import ExitCode
from mlcv_bench.records import Report, columns_of
from mlcv_bench.report.formats.json_text import document_parts

PROMISED = Path(__file__).parent / "golden" / "promised.json"


def columns() -> dict[str, list[str]]:
    """Return the columns of every study's rows, in their order."""
    from mlcv_bench.claims.claim import ClaimResult
    from mlcv_bench.comparing.differences import RowDifference
    from mlcv_bench.counting.cost import Cost
    from mlcv_bench.counting.training import TrainingCost
    from mlcv_bench.equivalence.study import COLUMNS as VERIFY
    from mlcv_bench.report import comparisons, landscapes, races, task_races
    from mlcv_bench.suites import report as suites
    from mlcv_bench.surface_race.metrics import RaceResult
    from mlcv_bench.timing.study import COLUMNS as TIME

    found = {
        "ab": comparisons.COLUMNS,
        "basins": races.BASIN_COLUMNS,
        "claims": columns_of(ClaimResult),
        "compare": columns_of(RowDifference),
        "flops": columns_of(Cost),
        "flops --training": columns_of(TrainingCost),
        "landscape": landscapes.COLUMNS,
        "lr-sweep": races.SWEEP_COLUMNS,
        "optim-race": columns_of(RaceResult),
        "optim-race --task": task_races.COLUMNS,
        "run": suites.COLUMNS,
        "time": TIME,
        "verify": VERIFY,
    }
    return {name: list(one) for name, one in found.items()}


def options(command: str) -> set[str]:
    """Return a command's options and arguments."""
    return {option for one in load_command(command).params for option in one.opts}


def promises() -> dict[str, object]:
    """Return every name that a user's scripts may hold."""
    public = {name: getattr(mlcv_bench, name) for name in mlcv_bench.__all__ if callable(getattr(mlcv_bench, name))}
    public |= {f"testing.{name}": getattr(testing, name) for name in testing.__all__}
    return {
        "columns": columns(),
        "document": list(json.loads("".join(document_parts(Report("cost", (), [], []))))),
        "exit codes": {code.name: int(code) for code in ExitCode},
        "limits": sorted(LIMITS),
        "options": {
            name: sorted(option for one in load_command(name).params for option in one.opts) for name in COMMANDS
        },
        "python": {name: list(inspect.signature(one).parameters) for name, one in public.items()},
    }


def held() -> dict[str, object]:
    """Return what the last release promised; nothing while this file itself writes it."""
    return json.loads(PROMISED.read_text(encoding="utf-8")) if __name__ != "__main__" else {}


HELD = held()


@pytest.mark.parametrize("study", HELD.get("columns", ()))
def test_columns_keep_their_place_and_new_ones_follow(study):
    promised = HELD["columns"][study]
    assert columns()[study][: len(promised)] == promised


@pytest.mark.parametrize("command", HELD.get("options", ()))
def test_options_stay_or_are_renamed(command):
    former = {option for name, option in deprecations.OPTIONS if name == command}
    assert set(HELD["options"][command]) <= options(command) | former


def test_all_else_stays_too():
    now = promises()
    assert now["document"] == HELD["document"]
    assert now["exit codes"] == HELD["exit codes"]
    assert set(HELD["limits"]) <= set(now["limits"])
    for name, parameters in HELD["python"].items():
        assert name in deprecations.PUBLIC or set(parameters) <= set(now["python"][name])


def test_a_renamed_option_does_what_it_did_and_says_so_once(monkeypatch, capsys):
    monkeypatch.setattr(deprecations, "OPTIONS", {("width", "--like"): Renamed("--match", "9.0.0")})
    assert parse(["width", "--like=resnet101"]).request == parse(["width", "--match", "resnet101"]).request
    said = "mlcv-bench: --like is now --match, and --like is gone in mlcv-bench 9.0.0"
    assert capsys.readouterr().err.strip() == said
    assert run(["width", "--like", "resnet50", "--groups", "2", "--format", "csv"]) == ExitCode.DONE
    told = capsys.readouterr()
    assert told.err.strip() == said
    assert told.out.startswith("match,")


def test_a_renamed_function_is_there_and_warns(monkeypatch):
    monkeypatch.setattr(deprecations, "PUBLIC", {"count_macs": Renamed("count", "9.0.0")})
    with pytest.warns(DeprecationWarning, match="mlcv_bench.count_macs is now count, .* gone in mlcv-bench 9.0.0"):
        assert mlcv_bench.count_macs is mlcv_bench.count


if __name__ == "__main__":
    PROMISED.write_text(json.dumps(promises(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{PROMISED}\n")
