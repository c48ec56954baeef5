"""What networks compute, as fingerprints that a file can keep: of outputs and gradients, for weights that are known.

A network is looked at twice. With its *own* weights, as its seed initialises them or a file holds them; and with
*drawn* ones, which a parameter's name and shape alone decide, so that a network whose weights are initialised otherwise
is told from one that computes otherwise.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.fingerprints import Fingerprint, counted, distance, fingerprint_of
from mlcv_bench.architectures.inputs import cannot_take
from mlcv_bench.architectures.request import DEFAULT_INPUT, Request
from mlcv_bench.architectures.weights import load_weights
from mlcv_bench.equivalence.comparison import FIXED, Result
from mlcv_bench.equivalence.evidence import Evidence, observe
from mlcv_bench.equivalence.exact import device_of, plain_arithmetic
from mlcv_bench.equivalence.packing import pack
from mlcv_bench.equivalence.randomness import NORMS, SCALED_NORMS, cast
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.study import owned
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, name_of

BATCH = 2
SCALES = (1.0, 0.01, 100.0)
"""Of the inputs: what cuts at a magnitude shows at one of them. Gradients are taken at the first."""
DTYPE = "float64"
ROUNDINGS = 100.0
"""So many times what rounding the input once changes is allowed, since another machine rounds every sum otherwise."""
LARGEST_TOLERANCE = 1e-3
TRAINING_SCALES = SCALES[:1]
"""Batch norm divides by the scale in training."""


@dataclass(frozen=True, slots=True)
class FingerprintRow:
    """One quantity's fingerprint. `tolerance` is the share of its norm by which another machine's may differ.

    `weights` are `drawn`, `own` or `file`; `scale` that of the input. `random` says that the network draws numbers
    there, which are those of one seed of torch's.
    """

    network: str
    input: str
    weights: str
    mode: str
    scale: float | None
    quantity: str
    shape: Sequence[int] | None = None
    norm: float | None = None
    projections: Sequence[float] | None = None
    tolerance: float | None = None
    random: bool = False
    dtype: str = DTYPE
    device: str = "cpu"
    seed: int = 0
    status: str = "done"
    reason: str = ""


def fingerprints(
    request: VerifyRequest, progress: Callable[[str], None] = lambda _line: None
) -> Iterator[FingerprintRow]:
    """Yield the fingerprints of every network, quantity by quantity.

    Raises:
        UsageError: a network that cannot be built, or takes another input.

    """
    where = device_of(request.device)
    with plain_arithmetic(where), _doubles():
        for subject in request.subjects:
            name = subject if isinstance(subject, str) else name_of(subject)
            for trial in range(request.trials):
                progress(name)
                seeded = replace(request, seed=request.seed + trial)
                for row in _of_network(subject, name, seeded):
                    yield replace(row, device=request.device, seed=seeded.seed)


@contextlib.contextmanager
def _doubles() -> Iterator[None]:
    """Let tensors that a network makes in its forward pass be of double precision as its weights are."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _of_network(subject: Any, name: str, request: VerifyRequest) -> Iterator[FingerprintRow]:  # noqa: ANN401 - as `verify` takes it
    shape = () if request.tensors else request.input or _usual_input(name)
    given = Request(name, input=shape, tensors=request.tensors)

    def built() -> nn.Module:
        network = owned(subject, request.seed, dict(request.settings))
        for path in request.weights:
            load_weights(network, path)
        cast(network, "cpu", torch.float64)
        return network

    network = built()
    if given.tensors:
        shape = pack((network,), given, request.seed)
    image = counted((BATCH, *shape), request.seed, "image").to(request.device)
    cast(network, request.device, torch.float64)
    try:
        observe(network, image, train="train" in request.modes)
    except UsageError:
        raise
    except Exception as error:
        raise cannot_take(given, error) from error
    row = FingerprintRow(name, given.input_text, "own", "", None, "parameters")
    kept = replace(row, weights="file") if request.weights else row
    weights = fingerprint_of(*_parameters(network).values())
    again = (
        weights if request.weights or isinstance(subject, nn.Module) else fingerprint_of(*_parameters(built()).values())
    )
    if weights == again:
        yield _row(kept, weights, FIXED[DTYPE])
        yield from _passes(network, image, kept, request.modes)
    else:
        yield replace(
            kept, status="skipped", reason="its weights are others each time: torch's seed does not decide them"
        )
    draw(network, request.seed)
    drawn = replace(row, weights="drawn")
    yield _row(drawn, fingerprint_of(*_parameters(network).values()), FIXED[DTYPE])
    yield from _passes(network, image, drawn, request.modes)


def _usual_input(name: str) -> tuple[int, ...]:
    request = Request.of(name)
    return request.input or DEFAULT_INPUT


def _parameters(network: nn.Module) -> dict[str, Tensor]:
    return dict(sorted(network.named_parameters()))


@torch.no_grad()
def draw(network: nn.Module, seed: int) -> None:
    """Give every parameter, and every statistic of a batch norm, values that its name and shape decide.

    Kernels have variance 2 / fan-in, so that magnitudes stay; scales and variances lie in 1/2 .. 3/2, as do parameters
    of one number or one axis that have no usual name, since a network may divide by them or take their root.
    """
    seen: set[int] = set()
    for place, layer in network.named_modules():
        norm = isinstance(layer, SCALED_NORMS)
        statistics = layer.named_buffers(recurse=False) if isinstance(layer, NORMS) else ()
        for name, value in (*layer.named_parameters(recurse=False), *statistics):
            if id(value) in seen or not (value.is_floating_point() or value.is_complex()):
                continue
            seen.add(id(value))
            numbers = counted(value.shape, seed, f"{place}.{name}")
            if "bias" in name or name == "running_mean":
                numbers *= 0.5 if norm else 0.1
            elif norm or value.dim() <= 1:
                numbers = 1.0 + numbers / math.sqrt(12.0)
            else:
                numbers *= math.sqrt(2 / max(value[0].numel(), 1))
            value.copy_(numbers)


def _passes(network: nn.Module, image: Tensor, row: FingerprintRow, modes: Sequence[str]) -> Iterator[FingerprintRow]:
    """Yield what every mode and scale shows."""
    signs = counted(image.shape, 0, "rounding").sign().to(image)
    for mode in modes:
        train = mode == "train"
        chance = _chance(network, image, train=train)
        for scale in TRAINING_SCALES if train else SCALES:
            at = replace(row, mode=mode, scale=scale, random=bool(chance), reason=chance)
            scaled = scale * image
            try:
                shown, rounded = (
                    _quantities(network, given, gradients=scale == SCALES[0], train=train)
                    for given in (scaled, scaled * (1 + torch.finfo(scaled.dtype).eps * signs))
                )
            except UsageError:
                raise
            except Exception as error:  # noqa: BLE001 - an input of this scale may lie outside the network's domain
                yield replace(
                    at,
                    quantity="output",
                    status="skipped",
                    reason=f"raises {type(error).__name__}: {first_line(error)}",
                )
                continue
            for quantity, found in shown.items():
                yield _judged(replace(at, quantity=quantity), found, rounded.get(quantity))


def _judged(row: FingerprintRow, found: Fingerprint | None, rounded: Fingerprint | None) -> FingerprintRow:
    if found is None or rounded is None:
        return _row(row, None, 0.0)
    if row.reason == STATEFUL:
        return replace(row, status="skipped")
    tolerance = max(FIXED[DTYPE], ROUNDINGS * distance(found, rounded))
    if tolerance > LARGEST_TOLERANCE:
        return replace(row, status="skipped", reason="rounding alone changes it beyond recognition")
    return _row(row, found, tolerance)


def _row(row: FingerprintRow, found: Fingerprint | None, tolerance: float) -> FingerprintRow:
    if found is None:
        return replace(row, status="skipped", reason="not all values are finite")
    shape, norm, projections = found
    return replace(row, shape=shape, norm=norm, projections=projections, tolerance=tolerance)


STATEFUL = "gives another output each time: it keeps a state, or draws numbers outside torch"
DRAWS = "draws random numbers, here those of one seed of torch's"


def _chance(network: nn.Module, image: Tensor, *, train: bool) -> str:
    """Say what in a network's outputs is chance."""
    first, again, other = (
        [fingerprint_of(part) for part in _tensors(observe(network, image, train=train, seed=seed).output).values()]
        for seed in (0, 0, 1)
    )
    if first != again:
        return STATEFUL
    return DRAWS if first != other else ""


def _tensors(parts: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return tensors and numbers among a network's outputs."""
    found = {}
    for name, part in parts.items():
        if isinstance(part, Tensor):
            found[name] = part
        elif isinstance(part, int | float):
            found[name] = torch.tensor(float(part))
    return found


def _quantities(network: nn.Module, image: Tensor, *, gradients: bool, train: bool) -> dict[str, Fingerprint | None]:
    """Return the fingerprints of one pass: outputs by their names, gradients, and a batch norm's statistics."""

    def cotangent(shape: Sequence[int]) -> Tensor:
        return counted(shape, 0, "cotangent")

    trained = any(weight.requires_grad for weight in network.parameters())
    shown: Evidence = observe(network, image, cotangent if gradients and trained else None, train=train)
    found = {name: fingerprint_of(part) for name, part in _tensors(shown.output).items()}
    rest: dict[str, Result] = {name: value for name, value in shown.quantities(train=train).items() if name != "output"}
    for name, value in rest.items():
        parts = [value] if isinstance(value, Tensor) else [part for _, part in sorted(value.items())]  # type: ignore[union-attr] # weights and statistics come by name
        found[name] = fingerprint_of(*parts)
    return found
