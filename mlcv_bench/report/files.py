"""Saving: the suffix decides the form, and a file is replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mlcv_bench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TEXT_SUFFIXES = (".csv", ".json", ".md")
PICTURE_SUFFIXES = (".png", ".svg", ".gif")


def check_outputs(paths: Sequence[Path], *, pictures: Sequence[str] = (), texts: Sequence[str] = TEXT_SUFFIXES) -> None:
    """Refuse, before anything is measured, a path that could not be written afterwards.

    Args:
        paths: what the user gave to -o.
        pictures: the picture suffixes that this command can draw.
        texts: the text suffixes that this command can write.

    Raises:
        UsageError: unknown suffix, missing or unwritable folder, or a path given twice.

    """
    known = (*texts, *pictures)
    for position, path in enumerate(paths):
        if path.suffix.lower() not in known:
            what = f"'{path.suffix}'" if path.suffix else "no suffix"
            msg = f"-o {path}: {what} is no form this command can save; use one of {' '.join(known)}"
            raise UsageError(msg)
        if path in paths[:position]:
            msg = f"-o {path} is given twice; keep one"
            raise UsageError(msg)
        if path.is_dir():
            msg = f"-o {path} is a folder; give a file in it"
            raise UsageError(msg)
        folder = path.parent
        if not folder.is_dir():
            msg = f"-o {path}: the folder {folder} does not exist; create it or choose another"
            raise UsageError(msg)
        try:
            # A file system can refuse what its permission bits allow, so try.
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            msg = f"-o {path} cannot be written: {error.strerror or error}; choose another place"
            raise UsageError(msg) from error
        if path.exists() and not os.access(path, os.W_OK):
            msg = f"-o {path} cannot be written: no permission; choose another place"
            raise UsageError(msg)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and put it in its place only if the block succeeds."""
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}; choose another place"
        raise UsageError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_text(path: Path, text: str) -> None:
    """Replace the file at `path` by `text`, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def save_picture(path: Path, draw: Callable[[Path], None]) -> None:
    """Replace the file at `path` by what `draw` paints, atomically."""
    with replacing(path) as temporary:
        draw(temporary)
