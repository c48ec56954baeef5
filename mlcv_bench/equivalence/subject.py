"""What a subject of `verify` is, and the table of them. Loads no torch: `list subjects` and usage errors read it.

The protocol, for whoever adds a subject:

1. Write a module `equivalence/NAME.py` with a function `cases(settings: Settings) -> Iterator[Case]`. A case has a name
   (its figures: `G=8 d=14 C=256 stride=2`) and a function without arguments that yields a `Finding` for every single
   thing it compared. Nothing is computed before that function is called.
2. Make findings with `comparison.judge` (tensors or mappings of tensors, exactly or to a tolerance), with
   `comparison.judge_counts` (whole numbers that must be equal), and with `controls.control` (a deliberate mistake that
   `judge` must notice). Each subject has at least one control a quantity: a check that cannot fail proves nothing.
3. Raise `trials.NotApplicableError` where a case makes no sense: it is skipped with this reason. Any other exception
   makes the case failed, and the others go on.
4. Add one line to `SUBJECTS`: name, one sentence, `module:function`. `verify`, `verify all`, `list subjects` and the
   completion read the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.request import Request, check_weights
from mlcv_bench.errors import UsageError
from mlcv_bench.names import Registry, is_specification, near_misses

if TYPE_CHECKING:
    from pathlib import Path

Proof = Literal["exact", "rounding", "count", "control", "report"]
"""How a finding was judged: equal bits, within a tolerance, equal whole numbers, a control, or not at all."""

PAIR = 2
TWO_NETWORKS = "modules"
"""What records of two networks of the user's have as their subject."""
DTYPES = ("float64", "float32", "bfloat16", "float16")
MODES = ("train", "eval")
DEFAULT_DTYPES = ("float64", "float32")
DEFAULT_GROUPS = (2, 4, 8, 32)
DEFAULT_CHANNELS = (256,)
ROUNDING_ORDER = ("float64", "float32", "float16", "bfloat16")
"""The order in which networks are cast from type to type, so that no type inherits what a coarser one rounded."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user may choose; a subject uses what concerns it.

    `dtypes` are those of the checks to rounding (the exact ones are always float64), `modes` those in which blocks and
    the user's own networks are compared (single convolutions have none, folding is for inference). `groups`, `widths`
    and `channels` are the notes' G, d and the block's channels; without widths each G has the d of the paper's table 2.
    """

    device: str = "cpu"
    dtypes: tuple[str, ...] = DEFAULT_DTYPES
    seed: int = 0
    groups: tuple[int, ...] = DEFAULT_GROUPS
    widths: tuple[int, ...] = ()
    channels: tuple[int, ...] = DEFAULT_CHANNELS
    modes: tuple[str, ...] = MODES


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison: two sides, one quantity, and the verdict.

    `max_rel_error` is the largest absolute difference over the largest magnitude of the reference. `tolerance` bounds
    it; 0 asks for equality. `largest_sum` bounds every partial sum of an exact check, and is below 2^53.
    `largest_output` is the largest magnitude of the reference's outputs, where two networks' are compared.
    For a control `comparison` names the deliberate mistake, and `passed` says whether it was detected.
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
PAIR_USES = ("dtypes", "modes", "device")

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
            f"{_HERE}.convolution:cases",
            ("groups", "widths", "dtypes", "device"),
        ),
        Subject(
            "projection",
            "A sum of G 1x1 convolutions is one over the concatenation; G of one input are one, split",
            "2.3.1",
            f"{_HERE}.projection:cases",
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
            f"{_HERE}.auxiliary:cases",
            ("device",),
            ("float32", "eval"),
        ),
        Subject(
            "published",
            "Every published and recounted figure of parameters and MACs, counted again",
            "2",
            f"{_HERE}.recount:cases",
        ),
        Subject(
            "torchvision",
            "The same state dict gives the same logits here and in torchvision",
            "2",
            f"{_HERE}.parity:cases",
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
            "Nesterov's momentum with the gradient ahead is the form without it, and torch.optim's",
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
            f"{_HERE}.optimizers:cases",
            always=("float64",),
        ),
    )
}
"""Every subject by its name, in the order in which `verify all` runs them."""

REGISTRY: Registry[Subject] = Registry("subject", "subjects", SUBJECTS)


def is_pair(names: Sequence[str]) -> bool:
    """Tell whether names stand for networks to compare with each other.

    They do where a specification (with a colon) is among them, or where two names are networks and no subjects.
    """
    if any(is_specification(name) for name in names):
        return True
    return len(names) == PAIR and not any(name in (*SUBJECTS, "all") or not _is_network(name) for name in names)


def _is_network(name: str) -> bool:
    try:
        catalog.is_built_in(name)
    except UsageError:
        return False
    return True


def check(settings: Settings, trials: int) -> None:
    """Refuse settings that no subject can use.

    Raises:
        UsageError: no number or type at all, a number below 1, or an unknown type.

    """
    given = {"--groups": settings.groups, "--width": settings.widths, "--channels": settings.channels}
    for word, numbers in given.items():
        if not numbers and word != "--width":
            raise UsageError(f"{word} names no number; give at least one")
        for number in numbers:
            if number < 1:
                raise UsageError(f"{word} takes whole numbers from 1 on, not {number}")
    if trials < 1:
        raise UsageError(f"--trials takes a whole number from 1 on, not {trials}")
    for word, names, known in (("--dtype", settings.dtypes, DTYPES), ("--mode", settings.modes, MODES)):
        if not names:
            raise UsageError(f"{word} names none, so that nothing would be compared; it takes {', '.join(known)}")
        for name in names:
            if name not in known:
                close = near_misses(name, known)
                hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(known)}"
                raise UsageError(f"{word} '{name}' cannot be checked; {hint}")


WORDS = {
    "groups": "--groups",
    "widths": "--width",
    "channels": "--channels",
    "dtypes": "--dtype",
    "modes": "--mode",
    "device": "--device",
}
"""The option behind each setting."""


def check_used(settings: Settings, subjects: Sequence[str]) -> None:
    """Refuse a setting that none of the subjects uses; without subjects, that two networks do not use.

    Raises:
        UsageError: it is not the default, and would change nothing.

    """
    used = {name for subject in subjects for name in SUBJECTS[subject].uses} if subjects else set(PAIR_USES)
    always = {value for subject in subjects for value in SUBJECTS[subject].always}
    for name, word in WORDS.items():
        given = getattr(settings, name)
        if name not in used and given != getattr(Settings(), name) and always.isdisjoint(given):
            whom = ", ".join(subjects) if subjects else "two networks"
            takers = ", ".join(subject.name for subject in SUBJECTS.values() if name in subject.uses)
            raise UsageError(f"{word} changes nothing for {whom}; leave it out (it belongs to {takers})")


def check_input(names: Sequence[str], shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape of one input of two networks: the one given, or that of the first one's own.

    Raises:
        UsageError: an unknown name, or an input that a network of the catalogue cannot take.

    """
    size = shape if shape is not None else Request.of(names[0]).input
    for name in names:
        try:
            Request.of(name, input=size)
        except UsageError as error:
            # What may follow is an option of the builder, which other commands set.
            raise UsageError(str(error).partition(" (--set")[0]) from error
    return size


def check_weights_of_pair(weights: Sequence[Path], *, keep: bool, transplanted: bool) -> None:
    """Refuse files of weights that are not there, or contradict what else is asked of two networks.

    Raises:
        UsageError: one sentence.

    """
    if len(weights) > PAIR:
        raise UsageError(f"--weights is given {len(weights)} times; give one file a network")
    if len(weights) == PAIR and transplanted:
        raise UsageError("--transplant would replace the second network's --weights; leave one of them out")
    if weights and keep:
        raise UsageError("--weights keeps the weights already; leave --keep-weights out")
    for path in weights:
        check_weights(path)


def names_of(subjects: Sequence[str]) -> list[str]:
    """Return the subjects' names, `all` replaced by every one, each once.

    Raises:
        UsageError: none is named, or one is unknown.

    """
    if not subjects:
        raise UsageError("no subject is named; try resnext, all, or `mlcv-bench list subjects`")
    names: dict[str, None] = {}
    for subject in subjects:
        if subject == "all":
            names.update(dict.fromkeys(SUBJECTS))
        else:
            REGISTRY.get(subject)
            names[subject] = None
    return list(names)
