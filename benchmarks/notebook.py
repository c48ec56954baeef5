"""Run every public function in a notebook, as Jupyter runs and nbconvert shows it.

It needs nbconvert and ipykernel, best in an environment of their own with mlcv-bench.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nbconvert
import nbformat
from harness import machine, record
from nbconvert.preprocessors import ExecutePreprocessor

import mlcv_bench

OWN = """
import functools

import torch
from torch import nn

import mlcv_bench
from mlcv_bench.testing import assert_cost, assert_equivalent, assert_not_slower


class Narrow(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.convolution = nn.Conv2d(3, width, 3)

    def forward(self, images):
        return self.convolution(images).relu()


class Linear(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))


def bowl(x, y):
    return x**2 + 10 * y**2


def descent(x, g, t, lr=0.05):
    return x - lr * g
"""
SHOWN = {
    "build('resnet20')": "text/plain",
    "count('resnet20')": "text/html",
    "count(Narrow, input='3x8x8', width=8).frame": "text/html",
    "count_training('resnet20', optimizer='adam', memory='1GiB')": "text/html",
    "draw(Narrow, input=(3, 8, 8))": "image/svg+xml",
    "figure(1.3)": "image/svg+xml",
    "verify('momentum')": "text/html",
    "verify(Narrow, Narrow(), input=(3, 8, 8))": "text/html",
    "time_forward(Narrow, input=(3, 8, 8), seconds=0.5)": "text/html",
    "race('canyon', starts=5)": "text/html",
    "race(bowl, [descent, functools.partial(descent, lr=0.01), lambda x, g, t, lr=0.02: x - lr * g])": "text/html",
    "race_on_tasks('digits', [torch.optim.AdamW, descent], models=Linear, protocols='default', epochs=2)": "text/html",
    "check_claims('1.1-sphere')": "text/html",
    "testing.assert_cost('resnet20', max_params=3e5)": "text/html",
    "testing.assert_equivalent(Narrow(), Narrow(), (3, 8, 8))": "text/html",
    "testing.assert_not_slower(Narrow(), Narrow(), (3, 8, 8), seconds=1)": "text/plain",
}
"""Calls of `mlcv_bench`, and what the notebook has to show of each."""


def main() -> None:
    """Run the notebook, save its page, and end with 1 where a cell shows something else or writes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", type=Path, default=Path("notebook.html"), help="where the page goes")
    page = parser.parse_args().o
    cells = [nbformat.v4.new_code_cell(text) for text in (OWN, *(f"mlcv_bench.{call}" for call in SHOWN))]
    notebook = nbformat.v4.new_notebook(cells=cells)
    ExecutePreprocessor(timeout=600, kernel_name="python3").preprocess(notebook)
    page.write_text(nbconvert.HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
    missing = {name for name in mlcv_bench.__all__ if not any(call.startswith(f"{name}(") for call in SHOWN)}
    wrong = [f"{name} is not called" for name in sorted(missing - {"__version__"})]
    for (call, kind), cell in zip(SHOWN.items(), notebook.cells[1:], strict=True):
        found = [output.get("data", {}) for output in cell.outputs if output.output_type == "execute_result"]
        streams = [output.text for output in cell.outputs if output.output_type == "stream"]
        if not found or kind not in found[0]:
            wrong.append(f"{call} shows {sorted(found[0]) if found else 'nothing'}, not {kind}")
        wrong += [f"{call} writes {text!r}" for text in streams]
    verdict = "\n".join(wrong) or "Every call shows its table or picture, and nothing else is written."
    about = f"Machine: {machine()}; nbconvert {nbconvert.__version__}."
    outcome = f"{len(SHOWN)} calls, every public function among them, as nbconvert runs them. {verdict}"
    record("notebook", ["# Python in a notebook", "", about, "", outcome])
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
