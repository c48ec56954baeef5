"""The study `verify`: subjects in, one record a comparison out."""

from __future__ import annotations

import copy
import importlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.build import build, load
from mlcv_bench.architectures.request import DEFAULT_INPUT, Request, parse_settings
from mlcv_bench.architectures.weights import load_weights
from mlcv_bench.equivalence.exact import device_of, plain_arithmetic
from mlcv_bench.equivalence.forms import FormCost, form_costs
from mlcv_bench.equivalence.packing import pack
from mlcv_bench.equivalence.pair import ComparedPair, in_one_sentence
from mlcv_bench.equivalence.pair import cases as cases_of_pair
from mlcv_bench.equivalence.request import MODES, PAIR, VerifyRequest
from mlcv_bench.equivalence.subject import REGISTRY, ROUNDING_ORDER, SUBJECTS, TWO_NETWORKS, Case, Finding
from mlcv_bench.equivalence.transplants import Transplant
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, load_specification, name_of
from mlcv_bench.trials import NotApplicableError

COLUMNS = (
    *("subject", "case", "quantity", "dtype", "mode", "device", "max_abs_error", "max_rel_error", "tolerance"),
    *("control_detected", "passed", "status", "reason"),
    *("comparison", "proof", "seed", "largest_sum", "largest_output"),
)
"""The columns of `verify` in CSV; the first thirteen are the contract's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence(Finding):
    """One finding with its subject, its case, where it was computed, and from which seed."""

    subject: str
    case: str
    device: str
    seed: int

    def row(self) -> dict[str, Any]:
        """Return the record under the columns of the contract."""
        return {name: getattr(self, name) for name in COLUMNS}


@dataclass(frozen=True)
class Verification:
    """Everything one `verify` found."""

    records: tuple[Equivalence, ...]
    forms: tuple[FormCost, ...]
    arithmetic: dict[str, Any]
    seconds: float
    interrupted: bool = False

    @property
    def passed(self) -> bool:
        """Whether something was compared, no comparison failed, every control was detected, and nothing broke."""
        return not self.failures and any(record.passed for record in self.records)

    @property
    def failures(self) -> tuple[Equivalence, ...]:
        """What failed: comparisons, negative controls that were not detected, cases that broke."""
        return tuple(record for record in self.records if record.passed is False or record.status == "failed")

    @property
    def agreeing_mode(self) -> str | None:
        """The one mode in which two networks agree, where everything that fails does so in the other."""
        judged = [record for record in self.records if record.subject == TWO_NETWORKS and record.passed is not None]
        failed = {record.mode for record in judged if not record.passed}
        for mode in MODES:
            compared = any(record.mode == mode and record.passed for record in judged if record.proof == "rounding")
            if compared and len(failed) == 1 and failed.isdisjoint({mode, None}):
                return mode
        return None

    @property
    def controls(self) -> tuple[Equivalence, ...]:
        """The records of negative controls."""
        return tuple(record for record in self.records if record.control_detected is not None)


def examined(
    subject: str,
    cases: Iterable[Case],
    request: VerifyRequest,
    progress: Callable[[str], None] = lambda _line: None,
) -> Iterator[Equivalence]:
    """Examine every case of a subject; one that breaks or makes no sense is a record, and the others go on."""
    for case in cases:
        progress(f"{subject}: {case.name}")
        for finding in _findings(case):
            name = f"{case.name}: {finding.comparison}" if finding.comparison else case.name
            yield Equivalence(subject=subject, case=name, device=request.device, seed=request.seed, **asdict(finding))


def _findings(case: Case) -> Iterator[Finding]:
    try:
        yield from case.examine()
    except NotApplicableError as error:
        yield Finding("", "", "report", status="skipped", reason=str(error))
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - one broken case must not cost the others
        yield Finding("", "", "report", status="failed", reason=f"{type(error).__name__}: {first_line(error)}")


def examine(
    request: VerifyRequest, *, costs: bool = True, progress: Callable[[str], None] = lambda _line: None
) -> Verification:
    """Compare everything that is asked for.

    Args:
        request: what to compare.
        costs: measure what the three forms cost, where `resnext` is among the subjects.
        progress: is given a line before every case.

    Raises:
        UsageError: an unknown subject or type, a number out of range, modules that do not fit each other or the input.

    """
    request.check()
    request = replace(request, dtypes=tuple(sorted(set(request.dtypes), key=ROUNDING_ORDER.index)))
    begun = time.perf_counter()
    where = device_of(request.device)
    chosen = [_two_networks(request)] if request.compares_networks else _subjects(request)
    records: list[Equivalence] = []
    forms: list[FormCost] = []
    interrupted = False
    arithmetic: dict[str, Any] = {}
    try:
        with plain_arithmetic(where) as arithmetic:
            for name, cases in chosen:
                for trial in range(request.trials):
                    seeded = replace(request, seed=request.seed + trial, device=_device_of(name, request.device))
                    records += examined(name, cases(seeded), seeded, progress)
        if costs and any(name == "resnext" for name, _ in chosen):
            # With cuDNN and whatever else a user's pass has.
            forms += form_costs(request)
    except KeyboardInterrupt:
        interrupted = True
    seconds = time.perf_counter() - begun
    return Verification(tuple(records), tuple(forms), dict(arithmetic), seconds, interrupted)


def _device_of(name: str, device: str) -> str:
    """Return where a subject computes: some run on Python's floats, or count."""
    return device if name not in SUBJECTS or "device" in SUBJECTS[name].uses else "cpu"


Cases = Callable[[VerifyRequest], Iterable[Case]]


def _subjects(request: VerifyRequest) -> list[tuple[str, Cases]]:
    chosen = []
    for name in request.names():
        module, _, attribute = REGISTRY.get(name).cases.partition(":")
        chosen.append((name, getattr(importlib.import_module(module), attribute)))
    return chosen


def _two_networks(request: VerifyRequest) -> tuple[str, Cases]:
    one, other = (subject if isinstance(subject, str) else name_of(subject) for subject in request.subjects)
    shape = () if request.tensors else request.input_of_networks() or DEFAULT_INPUT
    transplant = _function(request.transplant)

    def cases(seeded: VerifyRequest) -> Iterable[Case]:
        first, second = (owned(subject, seeded.seed, dict(request.settings)) for subject in request.subjects)
        for network, path in zip((first, second), request.weights, strict=False):  # one file is the first network's
            load_weights(network, path)
        given = Request(one, input=shape, tensors=request.tensors)
        pair = ComparedPair(
            first,
            second,
            names=(one, other),
            given=given,
            shape=pack((first, second), given, seeded.seed) if given.tensors else shape,
            request=seeded,
            carry=transplant or dict,
            keep=request.keep_weights or bool(request.weights),
            own=len(request.weights) == PAIR or (request.keep_weights and transplant is None),
        )
        return cases_of_pair(pair, given=transplant is not None)

    return TWO_NETWORKS, cases


def _function(transplant: str | Transplant | None) -> Transplant | None:
    """Return the transplant itself where a specification names it.

    Raises:
        UsageError: there is no such thing, or it is no function.

    """
    if not isinstance(transplant, str):
        return transplant
    function = load_specification(transplant)
    if not callable(function):
        raise UsageError(f"--transplant {transplant} is no function; name one that takes and returns a state dict")
    return function  # type: ignore[no-any-return] # as far as can be known before it is called


def owned(subject: str | nn.Module | Callable[..., Any], seed: int, settings: Mapping[str, str]) -> nn.Module:
    """Return a network that may be changed: built with this seed, or a copy of one that is built already.

    Raises:
        UsageError: it cannot be built, or not copied.

    """
    if not isinstance(subject, nn.Module):
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(seed)
            network = build(subject, **(parse_settings(subject, settings) if isinstance(subject, str) else {}))
        if not isinstance(subject, str) or catalog.is_built_in(subject) or load(subject) is not network:
            return network
        subject = network
    with in_one_sentence("the two networks cannot be copied", "give functions that build them instead"):
        return copy.deepcopy(subject)
