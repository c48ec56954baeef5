"""Kernels: text that numba compiles once and keeps on disk, and a rule as one compiled pass over a flat buffer."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import itertools
import os
import pickle
import platform
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcv_bench.functions import NUMBA, TABLE, Function

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlcv_bench.optimizers.compiled_rule import RuleLines
    from mlcv_bench.optimizers.rule import Rule

DAMAGED = (
    *(OSError, pickle.UnpicklingError, EOFError, ImportError),
    *(AttributeError, IndexError, KeyError, ValueError),
)
"""What numba raises on a cache that a full disk or a killed writer left behind; its own errors are others."""

BLOCK = 8192
"""Elements that a thread takes at a time: the arrays of one block fit the first-level cache."""


def cache_folder() -> Path:
    """Return where compiled kernels are kept: MLCV_BENCH_CACHE, or the user's cache folder."""
    given = os.environ.get("MLCV_BENCH_CACHE")
    if given:
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    return Path(base or Path.home() / ".cache") / "mlcv-bench" / "kernels"


def load(source: str) -> Callable[..., None]:
    """Return `run_blocks` of a kernel's source, compiled once and found again on disk.

    Its file is named by the hash of its text and of the versions that compile it, so that an edited rule is another
    file; it is put in place whole, so that two processes may do so at once.
    """
    import llvmlite  # noqa: PLC0415 - the engine alone
    import numba  # noqa: PLC0415 - as above

    versions = f"{platform.python_version()} {numba.__version__} {llvmlite.__version__} {np.__version__}"
    digest = hashlib.sha256(f"{versions}\n{source}".encode()).hexdigest()[:20]
    name = f"mlcv_bench_kernel_{digest}"
    try:
        path = cache_folder() / f"{name}.py"
        if name not in sys.modules:
            module = ModuleType(name)
            vars(module)["CACHE"] = True
            _put_in_place(path, source)
            exec(compile(source, path, "exec"), vars(module))  # noqa: S102 - written from checked trees
            sys.modules[name] = module
    except (OSError, RuntimeError):
        # No home, a read-only one, or another user's, where numba finds no place: compile in every process anew.
        return _kept_in_memory(source)
    kernel: Callable[..., None] = sys.modules[name].run_blocks

    def guarded(*arguments: Any) -> None:  # noqa: ANN401 - arrays and numbers
        try:
            kernel(*arguments)
        except DAMAGED:
            for leftover in (path.parent / "__pycache__").glob(f"{name}.*"):
                with contextlib.suppress(OSError):
                    leftover.unlink()
            _kept_in_memory(source)(*arguments)

    return guarded


def _put_in_place(path: Path, source: str) -> None:
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(suffix=".py", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(source)
    Path(temporary).replace(path)


def in_memory(source: str, **called: Callable[..., Any]) -> Callable[..., None]:
    """Compile a kernel that cannot be kept: it calls a user's functions, or there is no place to keep it."""
    import numba  # noqa: PLC0415 - the engine alone

    _overload_table()
    place: dict[str, Any] = {name: numba.njit(inline="always")(function) for name, function in called.items()}
    place["CACHE"] = False
    exec(source, place)  # noqa: S102 - written from checked trees
    return place["run_blocks"]  # type: ignore[no-any-return] # exec returns nothing


@functools.cache
def _kept_in_memory(source: str) -> Callable[..., None]:
    return in_memory(source)


@functools.cache
def _overload_table() -> None:
    """Let a user's compiled rule call the functions of the table, which numba cannot compile by itself."""
    from numba.extending import overload  # noqa: PLC0415 - as above

    for function in TABLE.values():
        home, _, attribute = function.numba.partition(".")
        overload(function, strict=False)(_forwarding(getattr(importlib.import_module(home), attribute), function))


def _forwarding(compiled: Callable[..., Any], function: Function) -> Callable[..., Callable[..., Any]]:
    def one(a: float) -> Any:  # noqa: ANN401 - compiled, not typed
        return compiled(a)

    def two(a: float, b: float) -> Any:  # noqa: ANN401 - as above
        return compiled(a, b)

    return lambda *_: one if function.arguments == 1 else two


def source(rule: Rule, lines: RuleLines, dtype: str) -> str:
    """Return the text of a rule's kernel over flat buffers of one type of number."""
    slots = rule.slots
    arrays = ["x", *(f"slot_{slot}" for slot in slots), *(["ahead"] if rule.lookahead else [])]
    outer = [
        "for block in range(first, last):",
        "    p = owner[block]",
        "    begin = begins[block]",
        "    n = ends[block] - begin",
        f"    g = carray(pointer(addresses[p] + {np.dtype(dtype).itemsize} * (begin - offsets[p])), (n,), np.{dtype})",
        *(f"    own_{name} = {name}[begin : begin + n]" for name in arrays),
        *(f"    {name} = table[p, {i}]" for i, name in enumerate(lines.coefficients)),
        *(f"    {name} = constants[{i}]" for i, name in enumerate(lines.constants)),
        "    for i in range(n):",
        "        x0 = own_x[i]",
        "        g0 = g[i]",
        *(f"        s_{slot}_0 = own_slot_{slot}[i]" for slot in slots),
        *(f"        {line}" for line in lines.lines),
        "        own_x[i] = x0",
        *(f"        own_slot_{slot}[i] = s_{slot}_0" for slot in slots),
        *(f"        {line}" for line in lines.lookahead_lines),
        *(["        own_ahead[i] = q0"] if rule.lookahead else []),
    ]
    arguments = ", ".join([*arrays, *(f"h_{name}" for name in lines.hyper)])
    return f'''\
"""Generated by mlcv-bench: one optimizer's rule over flat buffers. Delete freely; it is written anew."""

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic
{NUMBA}

@intrinsic
def pointer(typing_context, address):
    def write(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.{dtype})(types.int64), write


@njit(nogil=True, error_model="numpy", cache=CACHE)
def run_blocks(first, last, owner, begins, ends, offsets, addresses, table, constants, {arguments}):
{textwrap.indent(chr(10).join(outer), "    ")}
'''


class FlatKernel:
    """The kernel of one rule over the buffers of some parameters."""

    def __init__(self, rule: Rule, lines: RuleLines, dtype: str, offsets: Sequence[int]) -> None:
        """Load or compile the kernel; parameter p lies in the buffers from offsets[p] to offsets[p + 1]."""
        self._run = load(source(rule, lines, dtype))
        self._lines = lines
        self._type: Any = np.dtype(dtype).type
        self._offsets = np.asarray(offsets, np.int64)
        pieces = [
            (p, begin, min(begin + BLOCK, end))
            for p, (start, end) in enumerate(itertools.pairwise(offsets))
            for begin in range(start, end, BLOCK)
        ]
        self._owner, self._begins, self._ends = (np.array(column, np.int64) for column in zip(*pieces, strict=True))

    def step(
        self,
        addresses: npt.NDArray[np.int64],
        steps: Sequence[int],
        settings: Mapping[str, float],
        arrays: Sequence[npt.NDArray[Any]],
        threads: int,
    ) -> None:
        """Take one step in place.

        Args:
            addresses: where each parameter's gradient lies in memory, contiguous; 0 for one that is left alone.
            steps: each parameter's number of the step, from 1 on.
            settings: every hyperparameter.
            arrays: the buffers: parameters, slots in order, and where the look-ahead goes if the rule has one.
            threads: how many share the blocks; the result does not depend on it.

        """
        owner, begins, ends = self._owner, self._begins, self._ends
        if not addresses.all():
            kept = addresses[owner] != 0
            owner, begins, ends = owner[kept], begins[kept], ends[kept]
        # What depends on the number of the step, a row a parameter, is computed in double precision.
        rows = {t: (*self._lines.coefficients_of(t, settings), 0.0) for t in set(steps)}
        arguments = (
            *(owner, begins, ends, self._offsets, addresses, np.array([rows[t] for t in steps], self._type)),
            np.array([*self._lines.constants_of(settings), 0.0], self._type),
            *arrays,
            *(self._type(settings[name]) for name in self._lines.hyper),
        )
        count = len(owner)
        if threads <= 1 or count < 2 * threads:
            self._run(0, count, *arguments)
            return
        cuts = [count * i // threads for i in range(threads + 1)]
        pool = _threads(threads - 1)
        others = [pool.submit(self._run, cuts[i], cuts[i + 1], *arguments) for i in range(1, threads)]
        self._run(cuts[0], cuts[1], *arguments)
        wait(others)
        for other in others:
            other.result()


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="mlcv-bench-step")
