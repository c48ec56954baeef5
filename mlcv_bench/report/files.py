"""Saving: the suffix decides the form, and a file is replaced whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mlcv_bench.errors import UsageError
from mlcv_bench.extras import require
from mlcv_bench.records import visible
from mlcv_bench.report.formats import ANIMATIONS, PAGE, PICTURES, SAVED, TABULAR
from mlcv_bench.report.look import USUAL, Look, looking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

TEXT_SUFFIXES = (*SAVED, PAGE)
NEEDED = {PAGE: "page", TABULAR: "history", **dict.fromkeys((*PICTURES, *ANIMATIONS), "plots")}
"""Suffixes that need an extra."""
HIDDEN = ".mlcv-bench-"
"""How a temporary file next to the one to be replaced begins."""


def check_outputs(paths: Sequence[Path], *, pictures: Sequence[str] = (), texts: Sequence[str] = TEXT_SUFFIXES) -> None:
    """Refuse, before anything is measured, a path that could not be written afterwards.

    Args:
        paths: what the user gave to -o.
        pictures: the picture suffixes that this command can draw.
        texts: the text suffixes that this command can write.

    Raises:
        UsageError: unknown suffix, missing or unwritable folder, or a path given twice.
        MissingExtraError: a picture, a page or a Parquet file without its extra.

    """
    known = (*texts, *pictures)
    for position, path in enumerate(paths):
        if str(path) == "-":
            raise UsageError(
                "-o takes a file, and stdout carries the result already; choose its form with --format csv or json"
            )
        if path.suffix.lower() not in known:
            what = f"'{path.suffix}'" if path.suffix else "no suffix"
            raise UsageError(f"-o {path}: {what} is no form this command can save; use one of {' '.join(known)}")
        if extra := NEEDED.get(path.suffix.lower()):
            require(extra, f"-o {path}")
        target = resolved(path)
        if target in {resolved(other) for other in paths[:position]}:
            raise UsageError(f"-o {path} is given twice; keep one")
        if target.is_dir():
            raise UsageError(f"-o {path} is a folder; give a file in it")
        if not target.parent.is_dir():
            folder = target.parent if path.is_symlink() else path.parent
            raise UsageError(f"-o {path}: the folder {folder} does not exist; create it or choose another")
        try:
            # A file system can refuse what its permission bits allow, so try.
            tempfile.TemporaryFile(dir=target.parent).close()
        except OSError as error:
            raise UsageError(f"-o {path} cannot be written: {error.strerror or error}; choose another place") from error
        if target.exists() and not os.access(target, os.W_OK):
            raise UsageError(f"-o {path} cannot be written: no permission; choose another place")


def resolved(path: Path) -> Path:
    """Return the file that `path` leads to: what a symbolic link names is replaced, not the link.

    Raises:
        UsageError: the file system takes no such path, too long a name for instance.

    """
    try:
        target = path.resolve()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            target.stat()  # refuses a name too long
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its links lead in a circle"
        raise UsageError(f"-o {str(path)[:100]} cannot be written: {reason}; choose another place") from error
    return target


def own_prefix(beginning: str = "mlcv-bench-") -> str:
    """Return how names of temporary files begin that `remove_leftovers` removes when this process was killed."""
    return f"{beginning}{platform.node()}-{os.getpid()}-"


def remove_leftovers(folder: Path, beginning: str = "mlcv-bench-") -> None:
    """Remove temporary files and folders that a killed process of this machine left there."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{glob.escape(beginning + platform.node())}-*-*"):
            number = path.name.rsplit("-", 2)[1]
            if number.isdecimal() and not _lives(int(number)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path next to `path`, and put it in its place only if the block succeeds."""
    path = resolved(path)
    remove_leftovers(path.parent, HIDDEN)
    try:
        handle, name = tempfile.mkstemp(prefix=own_prefix(HIDDEN), suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}; choose another place") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}; choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def save_text(path: Path, text: str | Iterable[str]) -> None:
    """Replace the file at `path` by a text, whole or in parts, atomically."""
    # The name of a file, of which a result may tell, need not be text.
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="replace", newline="") as file:
        file.writelines([text] if isinstance(text, str) else text)


def save_picture(path: Path, draw: Callable[[Path], None], look: Look = USUAL) -> None:
    """Replace the file at `path` by what `draw` paints with this look, atomically."""
    with replacing(path) as temporary, looking(look):
        draw(temporary)
        if path.suffix.lower() == ".svg":
            temporary.write_text(visible(temporary.read_text(encoding="utf-8")), encoding="utf-8")
