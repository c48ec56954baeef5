"""Histories of made-up results, for tests that measure nothing."""

from __future__ import annotations

import copy

from mlcv_bench.history.commits import Commit, date_of
from mlcv_bench.history.database import History, NewResult

ENVIRONMENT = {"cpu": "A processor", "machine": "x86_64", "usable_cores": 2, "versions": {"mlcv-bench": "0.1.0"}}


def document(study, *rows, **environment):
    return {
        "schema": f"mlcv-bench/{study}",
        "version": 1,
        "command": f"mlcv-bench {study}",
        "environment": copy.deepcopy(ENVIRONMENT) | {"commit": None, "dirty": False} | environment,
        "columns": list(rows[0]),
        "runs": list(rows),
    }


def cost(params, name="resnet20"):
    return {"architecture": name, "input": "3x32x32", "batch": 1, "params": params, "macs": 5 * params, "options": ""}


def timed(median, name="resnet20", **more):
    row = {"architecture": name, "input": "3x32x32", "batch": 1, "threads": 1, "median_s": median, "p90_s": 2 * median}
    return row | {"ci_low_s": 0.99 * median, "ci_high_s": 1.01 * median, "status": "done", "basis": "cpu"} | more


def sha(number):
    return f"{number + 1:04x}".ljust(40, "0")


def commit(number, **more):
    parents = (sha(number - 1),) if number else ()
    return Commit(sha(number), parents, date_of(3600 * number), date_of(3600 * number), **{"branch": "main", **more})


def filled(path, *columns):
    """Write a history in which commit n has the n-th document of every column."""
    with History(path, create=True) as history:
        for documents in columns:
            history.add([NewResult(commit(at), dirty=False, document=one) for at, one in enumerate(documents)])
    return path
