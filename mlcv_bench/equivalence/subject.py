"""What a subject of `verify` is, and the table of them. Loads no torch: `list subjects` and usage errors read it.

To add a subject:

1. Write a function `cases(request: VerifyRequest) -> Iterator[Case]` in a module of this folder. A case has a name (its
   figures: `G=8 d=14 C=256 stride=2`) and a function without arguments that yields a `Finding` for every single thing
   it compared. Nothing is computed before that function is called.
2. For modules that should be one function, say how they are built from the same weights, how gradients map to the
   first one's layout, and what its negative controls are: a `harness.Reformulation`, which `harness.check` examines.
   Other findings come from `comparison.judge` and `judge_counts`, their negative controls from `as_control`. Each
   subject has at least one control a quantity: a check that cannot fail proves nothing.
3. Raise `trials.NotApplicableError` where a case makes no sense: it is skipped with this reason. Any other exception
   makes the case failed, and the others go on.
4. Add one line to `SUBJECTS`. `verify`, `verify all`, `list subjects` and the completion read the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from mlcv_bench.names import Registry

Proof = Literal["exact", "rounding", "count", "control", "report"]
"""How a finding was judged: equal bits, within a tolerance, equal whole numbers, a control, or not at all."""

TWO_NETWORKS = "modules"
"""The subject of records of two networks of the user's."""
ROUNDING_ORDER = ("float64", "float32", "float16", "bfloat16")
"""The order in which networks are cast from type to type, so that no type inherits what a coarser one rounded."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison: one quantity of two formulations, and the verdict.

    `max_rel_error` is the largest absolute difference over the largest magnitude of the reference. `tolerance` bounds
    it; 0 asks for equality. `largest_sum` bounds every partial sum of an exact check, and is below 2^53.
    `largest_output` is the largest magnitude of the reference's outputs, where two networks' are compared.
    For a negative control `comparison` says what was made wrong, and `passed` says whether it was detected.
    """

    comparison: str
    quantity: str
    proof: Proof
    dtype: str | None = None
    mode: str | None = None
    max_abs_error: float | None = None
    max_rel_error: float | None = None
    tolerance: float | None = None
    control_detected: bool | None = None
    passed: bool | None = None
    status: Literal["done", "skipped", "failed"] = "done"
    reason: str = ""
    largest_sum: float | None = None
    largest_output: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration to examine; nothing is computed before `examine` is called."""

    name: str
    examine: Callable[[], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Subject:
    """One equivalence that `verify` proves.

    `uses` names the settings that change what it does, besides the seed; `always` the type and mode that it computes in
    where it leaves no choice.
    """

    name: str
    summary: str
    section: str
    cases: str
    uses: tuple[str, ...] = ()
    always: tuple[str, ...] = ()


_HERE = "mlcv_bench.equivalence"

SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in (
        Subject(
            "resnext",
            "A ResNeXt block is one function in three forms: branches, early concatenation, grouped convolution",
            "2.3.1",
            f"{_HERE}.resnext:cases",
            ("groups", "widths", "channels", "dtypes", "modes", "device"),
        ),
        Subject(
            "grouped-conv",
            "A grouped convolution is G convolutions on chunks, and a dense one with a block-diagonal kernel",
            "2.3",
            f"{_HERE}.convolution:grouped_cases",
            ("groups", "widths", "dtypes", "device"),
        ),
        Subject(
            "projection",
            "A sum of G 1x1 convolutions is one over the concatenation; G of one input are one, split",
            "2.3.1",
            f"{_HERE}.convolution:projection_cases",
            ("groups", "widths", "channels", "dtypes", "device"),
        ),
        Subject(
            "folding",
            "Batch norm folded into the convolution before it is the pair, at inference",
            "2.2",
            f"{_HERE}.folding:cases",
            ("dtypes", "device"),
            ("eval",),
        ),
        Subject(
            "auxiliary",
            "GoogLeNet's logits at inference do not depend on its auxiliary classifiers",
            "2.1",
            f"{_HERE}.networks:auxiliary_cases",
            ("device",),
            ("float32", "eval"),
        ),
        Subject(
            "published",
            "Every published and recounted figure of parameters and MACs, counted again",
            "2",
            f"{_HERE}.networks:published_cases",
        ),
        Subject(
            "torchvision",
            "The same state dict gives the same logits here and in torchvision",
            "2",
            f"{_HERE}.networks:torchvision_cases",
            ("device",),
            ("float32", "eval"),
        ),
        Subject(
            "momentum",
            "The notes' momentum is torch.optim's, and its velocity is a weighted sum of past steps",
            "1.3",
            f"{_HERE}.optimizers:momentum_cases",
            always=("float64",),
        ),
        Subject(
            "nesterov",
            "Nesterov's momentum with the look-ahead gradient is the form without it, and torch.optim's",
            "1.3",
            f"{_HERE}.optimizers:nesterov_cases",
            always=("float64",),
        ),
        Subject(
            "weight-decay",
            "L2 in the gradient is weight decay for SGD, and is not for Adam or with momentum",
            "1.4.4",
            f"{_HERE}.optimizers:weight_decay_cases",
            always=("float64",),
        ),
        Subject(
            "optimizers",
            "Every rule that torch.optim has too takes the same steps on the same gradients",
            "1",
            f"{_HERE}.optimizers:parity_cases",
            always=("float64",),
        ),
    )
}
"""Every subject by its name, in the order in which `verify all` runs them."""

REGISTRY: Registry[Subject] = Registry("subject", "subjects", SUBJECTS)
