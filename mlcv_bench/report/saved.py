"""Reading back what -o saved: refused in one sentence unless it is whole enough to be compared."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NoReturn

from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Read a JSON file, in which every number is finite.

    Raises:
        FileNotFoundError: there is none, for the caller to say what to type.
        UsageError: it cannot be read.

    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {first_line(error)}; give a .json that -o saved") from error


def _no_number(word: str) -> NoReturn:
    msg = f"{word} is no number in JSON"
    raise ValueError(msg)


def fault_of(document: Mapping[str, Any], numbers: Sequence[str]) -> str:
    """Return why a saved document cannot be compared, in words; nothing where it can.

    Args:
        document: what was read.
        numbers: the columns that hold numbers, or nothing, in every row.

    """
    runs = document.get("runs")
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        return "its runs are no list of rows"
    for key, needed in (("environment", True), ("details", False), ("settings", False)):
        if (key in document or needed) and not isinstance(document.get(key), dict):
            return f"its {key} is missing" if key not in document else f"its {key} is no table"
    for run in runs:
        for name in numbers:
            if not _is_number(run.get(name)):
                return f"a row's {name} is {run[name]!r:.40}, which is no finite number"
        if not isinstance(run.get("contention") or "", str):
            return "a row's contention is no text"
    return ""


def _is_number(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    if value is None:
        return True
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
