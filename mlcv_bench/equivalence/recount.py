"""Subject `published`: what papers and tables print, and what was recounted from them, counted again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from mlcv_bench.counting.cost import count
from mlcv_bench.counting.published import Published, figures
from mlcv_bench.equivalence.comparison import judge_counts
from mlcv_bench.equivalence.controls import control_counts
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.subject import Case, Finding
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


def cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield every published figure in the order of the file."""
    del request
    for figure in figures():
        yield Case(f"{figure.name} {shape_text(figure.input)} {figure.source}", partial(examine, figure))


def examine(figure: Published) -> Iterator[Finding]:
    """Count the network: a recount must agree to the integer, a printed figure in the digits that are printed.

    A printed figure that is known to be wrong is reported with what is wrong.
    """
    cost = count(figure.name, input=figure.input)
    for quantity, known, counted in (("parameters", figure.params, cost.params), ("MACs", figure.macs, cost.macs)):
        if known is None:
            continue
        if figure.kind == "recount":
            yield judge_counts("recounted = counted", quantity, known.value, counted)
            continue
        gap = abs(known.value - counted)
        told = f"printed {known.value:,}, counted {counted:,}"
        printed = partial(
            Finding, "printed, counted", quantity, max_abs_error=float(gap), max_rel_error=gap / known.value
        )
        if figure.remark:
            yield printed("report", reason=f"{told}: {figure.remark}")
        else:
            met = known.is_met_by(counted)
            yield printed("rounding", tolerance=known.digit / known.value, passed=met, reason="" if met else told)
    if figure.kind == "recount" and figure.name in CONTROLS and figure.macs is not None:
        other, mistake = CONTROLS[figure.name]
        yield control_counts(mistake, "MACs", figure.macs.value, count(other, input=figure.input).macs)
