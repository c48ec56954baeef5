"""What can be said of two cells without a clock: their parameters, MACs, bytes, operators and outputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcv_bench.architectures.fingerprints import distance, fingerprint_of
from mlcv_bench.environment import state_of
from mlcv_bench.errors import UsageError
from mlcv_bench.timing.request import moved_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlcv_bench.timing.request import Cell

EQUAL_OUTPUTS = 1e-12
"""Of double precision's sums; what rounds otherwise differs by more."""
MOST_NAMED = 6
FIGURES = {"params": "parameters", "macs": "MACs", "moved_bytes": "bytes moved at least"}


@dataclass(frozen=True, slots=True)
class ExactFigures:
    """What no load changes. `outputs` has the shape, the norm and projections of every output for the cell's seed.

    Figures are None, and operators none, where the network cannot be counted. `calibrated` networks are others than
    those of their seed.
    """

    params: int | None = None
    macs: int | None = None
    moved_bytes: int | None = None
    operators: Mapping[str, int] = field(default_factory=dict)
    outputs: Sequence[tuple[list[int], float, list[float]]] = ()
    calibrated: bool = False
    source: str | None = None
    """The file of the network's code."""
    commit: str | None = None
    """The git commit that file stands at, and whether anything of its repository was changed since."""

    def below(self, folder: Path) -> ExactFigures:
        """Return them with the file as it lies below a folder."""
        inside = self.source is not None and Path(self.source).is_relative_to(folder.resolve())
        return replace(self, source=str(Path(self.source or "").relative_to(folder.resolve()))) if inside else self

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def exact_figures(cell: Cell, returned: object) -> ExactFigures:
    """Count a cell's network and take the fingerprints of what a call of it returned; of no use if not finite."""
    from mlcv_bench.architectures.build import source_of  # noqa: PLC0415 - loads torch
    from mlcv_bench.counting.cost import count  # noqa: PLC0415 - loads torch
    from mlcv_bench.timing.reference import is_calibrated, tensors_of  # noqa: PLC0415 - loads torch

    taken = [(output, fingerprint_of(output)) for output in tensors_of(returned).values()]
    source = source_of(cell.architecture)
    found = ExactFigures(
        outputs=[one or ([*output.shape], 0.0, []) for output, one in taken],
        calibrated=is_calibrated(cell),
        source=None if source is None else str(source),
        commit=None if source is None else state_of(source),
    )
    try:
        cost = count(cell.request, batch=cell.batch)
    except UsageError:
        return found
    operators = cost.trace.operator_counts if cost.trace else {}
    moved = moved_bytes(cell, cost)
    return replace(found, params=cost.params, macs=cost.macs, moved_bytes=moved, operators=operators)


def exact_differences(base: ExactFigures, other: ExactFigures) -> list[str]:
    """Say in sentences how B differs from A exactly, or that it does not, or that neither could be counted."""
    found = [*_figures(base, other), *_operators(base, other), *_outputs(base, other)]
    if found:
        return found
    if base.macs is None:
        return ["Exactly: neither could be counted; the outputs for one seed are the same."] if base.outputs else []
    return [f"Exactly alike: {base.params:,} parameters, {base.macs:,} MACs, operators, bytes, outputs for one seed."]


def _figures(base: ExactFigures, other: ExactFigures) -> Iterator[str]:
    for name, words in FIGURES.items():
        one, two = getattr(base, name), getattr(other, name)
        if one is not None and two is not None and one != two:
            times = f", {two / one:.4g} times" if one else ""
            yield f"Exactly: {two:,} {words} in B, {one:,} in A{times}."


def _operators(base: ExactFigures, other: ExactFigures) -> Iterator[str]:
    names = sorted({*base.operators, *other.operators}) if base.operators and other.operators else []
    moved = [(name, other.operators.get(name, 0), base.operators.get(name, 0)) for name in names]
    moved = [one for one in moved if one[1] != one[2]]
    if moved:
        listed = ", ".join(f"{name} {two} instead of {one}" for name, two, one in moved[:MOST_NAMED])
        rest = f", and {len(moved) - MOST_NAMED} more" if len(moved) > MOST_NAMED else ""
        yield f"Exactly: other operators in B: {listed}{rest}."


def _outputs(base: ExactFigures, other: ExactFigures) -> Iterator[str]:
    shapes = [[shape for shape, _, _ in side.outputs] for side in (base, other)]
    if shapes[0] != shapes[1]:
        yield f"Exactly: outputs of other shapes: {_shapes(shapes[1])} in B, {_shapes(shapes[0])} in A."
        return
    if base.calibrated != other.calibrated:
        return
    shares = [distance(one, two) for one, two in zip(base.outputs, other.outputs, strict=True)]
    if shares and max(shares) > EQUAL_OUTPUTS:
        yield f"Outputs for one seed differ by about {max(shares):.1e} of their norm."


def _shapes(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join("x".join(map(str, shape)) or "a number" for shape in shapes) or "none"
