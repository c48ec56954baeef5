"""Subject `published`: every published count of parameters and MACs, counted again from our definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from mlcv_bench.counting.cost import count
from mlcv_bench.counting.published import Published, figures
from mlcv_bench.equivalence.comparison import judge_counts
from mlcv_bench.equivalence.controls import control_counts
from mlcv_bench.equivalence.subject import Case, Finding, Settings
from mlcv_bench.records import shape_text

CONTROLS = {
    "resnet50": ("resnet50_v1_5", "the stage's stride in the 3x3"),
    "resnet101": ("resnet101_v1_5", "the stage's stride in the 3x3"),
    "resnet152": ("resnet152_v1_5", "the stage's stride in the 3x3"),
    "googlenet": ("googlenet_torchvision", "3x3 where 5x5 should be, and batch norm"),
    "inception_resnet_v2_paper": ("inception_resnet_v2", "the widths everyone ships"),
    "resnext50_32x4d": ("resnext50_4x24d", "another G and d"),
    "vgg16": ("vgg19", "three layers more"),
}
"""For some networks another one that is easily taken for it, whose count must not pass for its."""


def cases(settings: Settings) -> Iterator[Case]:
    """Yield every published figure in the order of the file."""
    del settings
    for figure in figures():
        yield Case(f"{figure.name} {shape_text(figure.input)} {figure.source}", partial(examine, figure))


def examine(figure: Published) -> Iterator[Finding]:
    """Count the network; a recount must agree to the integer, what a paper printed is reported beside it."""
    cost = count(figure.name, input=figure.input)
    for quantity, published, counted in (
        ("parameters", figure.params, cost.params),
        ("MACs", figure.macs, cost.macs),
    ):
        if published is None:
            continue
        if figure.kind == "recount":
            yield judge_counts("published = counted", quantity, published, counted)
        else:
            yield Finding(
                "printed, counted",
                quantity,
                "report",
                max_abs_error=float(abs(published - counted)),
                max_rel_error=abs(published - counted) / published if published else math.inf,
                reason=f"printed {published:,}, counted {counted:,}: reported, not judged, since papers round",
            )
    if figure.kind == "recount" and figure.name in CONTROLS and figure.macs is not None:
        other, mistake = CONTROLS[figure.name]
        yield control_counts(mistake, "MACs", figure.macs, count(other, input=figure.input).macs)
