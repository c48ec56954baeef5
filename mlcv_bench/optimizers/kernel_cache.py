"""Kernels that are written as text: compiled by numba once, kept on disk, found again by the hash of their text."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


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
    """Import a kernel's module from the cache folder, writing it there first if it is new.

    The file is named by the hash of its text and of the versions that compile it, so that an edited rule is another
    file; it is put in place whole, so that two processes may do so at once.
    """
    import llvmlite  # noqa: PLC0415 - the engine alone
    import numba  # noqa: PLC0415 - as above

    text = source.replace("cache=CACHE", "cache=True")
    versions = f"{platform.python_version()} {numba.__version__} {llvmlite.__version__} {np.__version__}"
    digest = hashlib.sha256(f"{versions}\n{text}".encode()).hexdigest()[:20]
    name = f"mlcv_bench_kernel_{digest}"
    if name in sys.modules:
        return sys.modules[name].run_blocks  # type: ignore[no-any-return] # a generated module
    folder = cache_folder()
    path = folder / f"{name}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            handle, temporary = tempfile.mkstemp(suffix=".py", dir=folder)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).replace(path)
    except OSError:
        # A read-only home: compile anew in every process rather than not at all.
        return in_memory(source, {})
    return _imported(name, path, source)


def _imported(name: str, path: Path, source: str) -> Callable[..., None]:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        return in_memory(source, {})
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    kernel: Any = module.run_blocks

    def guarded(*arguments: Any) -> None:  # noqa: ANN401 - arrays and numbers
        try:
            kernel(*arguments)
        except Exception:
            if kernel.signatures:
                raise
            # A damaged cache (a full disk, a killed writer): forget it and compile in memory.
            for leftover in (path.parent / "__pycache__").glob(f"{name}.*"):
                with contextlib.suppress(OSError):
                    leftover.unlink()
            in_memory(source, {})(*arguments)

    return guarded


def in_memory(source: str, namespace: dict[str, Any]) -> Callable[..., None]:
    """Compile a kernel that cannot be kept: it calls a user's function, or there is no place to keep it."""
    import numba  # noqa: PLC0415 - the engine alone

    compiled = {
        name: numba.njit(inline="always")(function) for name, function in namespace.items() if function is not None
    }
    place: dict[str, Any] = {**compiled}
    text = source.replace("cache=CACHE", "cache=False").replace("cache=True", "cache=False")
    exec(compile(text, "<generated kernel>", "exec"), place)  # noqa: S102 - written from checked trees
    return place["run_blocks"]  # type: ignore[no-any-return] # exec returns nothing
