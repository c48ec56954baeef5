"""Where a side of a comparison runs: an interpreter, a checkout, a revision of git; and its folders while it does."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlcv_bench import interruption
from mlcv_bench.errors import UsageError
from mlcv_bench.system import own_group
from mlcv_bench.worlds import roots_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Place:
    """Where code comes from and what runs it; nothing of it given is this process's own, current folder included.

    `python` is an interpreter that has mlcv-bench, `path` a checkout, which becomes the current folder and comes first
    on the path, `revision` one of git's in the repository of `path`, or of the current folder.
    """

    python: Path | None = None
    path: Path | None = None
    revision: str | None = None

    @property
    def at_home(self) -> bool:
        """Whether nothing of it is given."""
        return self == HERE

    @property
    def words(self) -> list[str]:
        """What was given, to stand beside a name."""
        return [str(part) for part in (self.python, self.path, self.revision) if part is not None]

    @property
    def tree(self) -> list[Path]:
        """The folders whose code must come from there; none where no path is given."""
        return [] if self.path is None else roots_of(self.path.resolve())

    def check(self, side: str) -> None:
        """Refuse a file that is no interpreter, a folder that is none, and a revision that git does not know.

        Args:
            side: how its options begin: base or head.

        Raises:
            UsageError: one sentence.

        """
        if self.python is not None and not self.python.is_file():
            raise UsageError(f"--{side}-python {self.python} does not exist; give a Python that has mlcv-bench")
        if self.python is not None and not os.access(self.python, os.X_OK):
            raise UsageError(f"--{side}-python {self.python} is no program; give a Python that has mlcv-bench")
        if self.path is not None and not self.path.is_dir():
            raise UsageError(f"--{side}-path {self.path} is no folder; give the root of a checkout")
        if self.revision is not None:
            self.commit(side)

    def commit(self, side: str) -> str:
        """Return the commit that its revision names.

        Raises:
            UsageError: there is no repository, or no such revision.

        """
        where = self.path or Path.cwd()
        if _git(where, "rev-parse", "--show-toplevel").returncode:
            raise UsageError(f"--{side}-rev {self.revision}: {where} is in no repository of git; give --{side}-path")
        found = _git(where, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{self.revision}^{{commit}}")
        if found.returncode:
            raise UsageError(f"--{side}-rev {self.revision}: git knows no such commit in {where}; fetch it first")
        return found.stdout.strip()

    def command(self, module: str, *arguments: str) -> list[str]:
        """Return what runs a module there."""
        # -P keeps the current folder, which may be a checkout of another version, off the child's path.
        python = sys.executable if self.python is None else str(self.python.absolute())
        return [python, "-P", "-m", module, *arguments]

    def environment(self) -> dict[str, str]:
        """Return the variables of a process there: with an interpreter or a path the current folder is not searched."""
        found = dict(os.environ)
        searched = [found.pop("PYTHONPATH", "")]
        if self.path is not None:
            there = self.path.resolve()
            searched = [*map(str, roots_of(there)), *([] if self.python or _has_package(there) else searched)]
        elif self.python is not None:
            # What this process's PYTHONPATH holds must not replace the other environment's own package.
            searched = []
        if self.python is None and not (self.path and _has_package(self.path)) and _is_checkout():
            # This process runs from a checkout, so its child must find the same one, behind what the side brings.
            place = len(roots_of(self.path.resolve())) if self.path else 0
            searched.insert(place, str(PACKAGE.parent))
        if searched := [one for one in searched if one]:
            found["PYTHONPATH"] = os.pathsep.join(searched)
        return found if self.at_home else found | {"PYTHONSAFEPATH": "1"}


HERE = Place()


def _has_package(checkout: Path) -> bool:
    return any((folder / "mlcv_bench").is_dir() for folder in roots_of(checkout))


def _is_checkout() -> bool:
    return PACKAGE.parent.name not in {"site-packages", "dist-packages"}


@contextlib.contextmanager
def checked_out(places: Sequence[Place], folder: Path) -> Iterator[list[Place]]:
    """Give places whose revisions lie in worktrees of git, made in an empty folder and removed afterwards.

    Where the user stands below a repository's root, the place is that folder of the revision.

    Raises:
        UsageError: git cannot make one; the message is git's.

    """
    made: dict[Place, Place] = {}
    with contextlib.ExitStack() as stack:
        for place in dict.fromkeys(one for one in places if one.revision is not None):
            where, tree = place.path or Path.cwd(), folder / str(len(made))
            # A worktree whose folder a killed run left behind is forgotten.
            _git(where, "worktree", "prune")
            stack.callback(_remove, where, tree)
            added = _git(where, "worktree", "add", "--detach", "--quiet", str(tree), place.commit("base"))
            if added.returncode:
                reason = (added.stderr.strip().splitlines() or ["git worktree add failed"])[-1]
                raise UsageError(f"{place.revision} cannot be checked out: {reason.removeprefix('fatal: ')}")
            there = tree / _git(where, "rev-parse", "--show-prefix").stdout.strip()
            if not there.is_dir():
                raise UsageError(f"{place.revision} has no folder {there.relative_to(tree)}; stand at its root")
            made[place] = replace(place, path=there, revision=None)
        yield [made.get(place, place) for place in places]


def _remove(where: Path, tree: Path) -> None:
    with interruption.postponed():
        _git(where, "worktree", "remove", "--force", "--force", str(tree))
        _git(where, "worktree", "prune")


def _git(where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder, whatever a hook that called us says of another repository; Ctrl-C does not reach it."""
    variables = {name: value for name, value in os.environ.items() if name not in HOOK_VARIABLES}
    command = ["git", "-C", str(where), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=variables, **own_group())  # noqa: S603 - git, found on the user's PATH
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", f"git cannot be started: {error.strerror}")


HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
