"""Saved documents as `-o X.json` writes them, small enough to read, for tests that measure nothing."""

from __future__ import annotations

import copy

ENVIRONMENT = {
    "python": "3.11.7",
    "system": "Linux",
    "machine": "x86_64",
    "cpu": "A processor",
    "logical_cores": 2,
    "usable_cores": 2,
    "memory_bytes": 1,
    "versions": {"torch": "2.13.0"},
    "flags": {},
    "threads": 1,
    "device": None,
    "host": "here",
    "commit": "abc",
    "time": "2026-01-02T03:04:05+00:00",
    "command": "mlcv-bench ...",
}


def document(study, rows, **details):
    return {
        "schema": f"mlcv-bench/{study}",
        "version": 1,
        "command": f"mlcv-bench {study}",
        "environment": copy.deepcopy(ENVIRONMENT),
        "columns": list(rows[0]) if rows else [],
        "runs": rows,
        "notes": [],
        "warnings": [],
        "details": details,
    }


def cost(name="resnet20", params=1000, macs=5000, **more):
    row = {"architecture": name, "input": "3x32x32", "batch": 1, "params": params, "macs": macs}
    return row | {"activations": 10, "weight_bytes": 4 * params, "peak_activation_bytes": 77} | more


def timed(name="resnet20", median=0.010, low=0.0098, high=0.0102, status="done", **more):
    done = status == "done"
    return {
        "architecture": name,
        "input": "3x32x32",
        "device": "cpu",
        "runtime": "eager",
        "dtype": "float32",
        "memory_format": "contiguous",
        "batch": 1,
        "threads": 1,
        "pass": "forward",
        "fold_batch_norm": False,
        "median_s": median if done else None,
        "ci_low_s": low if done else None,
        "ci_high_s": high if done else None,
        "images_per_s": 1 / median if done else None,
        "peak_bytes": 123 if done else None,
        "first_call_s": 0.5,
        "status": status,
        "reason": "" if done else "OutOfMemoryError: it was too big",
        "params": 1000,
        "macs": 5000,
        "settings": "",
        "weights": None,
        "key": f"key of {name}",
    } | more


def time_document(*rows):
    cells = {}
    for row in rows:
        middle = row["median_s"] or 0.0
        calls = [[middle * (1 + 0.01 * ((block + call) % 3 - 1)) for call in range(4)] for block in range(5)]
        cells[row["key"]] = {
            "blocks": [
                {"round": number, "calls_s": values, "cpu_s": 1.0, "contention": {"flags": []}}
                for number, values in enumerate(calls)
            ]
            + [{"round": 9, "calls_s": [99.0], "cpu_s": 1.0, "contention": {"flags": ["steal"]}}]
        }
    return document("time", list(rows), cells=cells)


def raced(optimizer="adam", outcome="converged", **more):
    row = {
        "surface": "canyon",
        "optimizer": optimizer,
        "protocol": "default",
        "lr": 0.1,
        "start": [1.0, 2.5],
        "seed": 0,
    }
    return row | {"steps": 100, "first_hit": 50, "last_exit": 50, "outcome": outcome} | more


def verified(case="G=8", *, passed=True, detected=None):
    row = {"subject": "resnext", "case": case, "quantity": "output", "dtype": "float64", "mode": "eval"}
    return row | {"device": "cpu", "control_detected": detected, "passed": passed, "status": "done", "reason": ""}


def trained(optimizer, accuracies, outcome="converged"):
    """Return a run on a task: one row an epoch, each with how the run ended."""
    row = {"task": "digits", "model": "mlp", "optimizer": optimizer, "protocol": "default", "batch_size": 32, "seed": 0}
    return [
        row | {"epoch": epoch, "val_accuracy": value, "status": "done", "outcome": outcome, "first_hit": None}
        for epoch, value in enumerate(accuracies)
    ]
