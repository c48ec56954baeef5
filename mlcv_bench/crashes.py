"""Where a user's code failed: its last frames, which say more than torch's or ours."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_FRAMES = 3
PACKAGE = Path(__file__).resolve().parent
LIBRARIES = ("site-packages", "dist-packages")


def own_frames(error: BaseException) -> list[str]:
    """Return the last frames of the user's code in what made an error, the innermost last; none where it made none.

    A frame reads `model.py, line 12, in forward`, with the folders below the current one.
    """
    found = [frame for cause in _causes(error) for frame in traceback.extract_tb(cause.__traceback__)]
    own = [frame for frame in found if _is_users(frame.filename)]
    return [f"{_shown(frame.filename)}, line {frame.lineno}, in {frame.name}" for frame in own[-MOST_FRAMES:]]


def located(error: BaseException) -> str:
    """Return where the user's code failed as the end of a sentence; nothing where no such code did."""
    frames = own_frames(error)
    return f"; it failed in {'; '.join(reversed(frames))} (--debug shows all)" if frames else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _is_users(name: str) -> bool:
    if name.startswith("<"):
        return False
    path = Path(name).resolve()
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    library = any(part in LIBRARIES for part in path.parts) or path.is_relative_to(standard)
    # The program that was started is ours, or the user's own script, whose frames say nothing of the network.
    started = getattr(sys.modules.get("__main__"), "__file__", None)
    return not library and not path.is_relative_to(PACKAGE) and name != started


def _shown(name: str) -> str:
    path = Path(name).resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
