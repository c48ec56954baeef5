"""A study without meaning, and what workers do for it: for tests of the driver. Importable by spawned workers."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    name: str
    folder: str = ""

    @property
    def key(self):
        return self.name

    @property
    def lanes(self):
        return (self.name,)


def work(job):
    """Do what the job's name says."""
    kind = job.name.partition("-")[0]
    if job.folder:
        with (Path(job.folder) / "log").open("a") as file:
            file.write(f"{job.name} {os.getpid()}\n")
    if kind == "raises":
        raise ValueError("boom\nand more")
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "kills" or (kind == "once" and first_time(job)):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"name": job.name, "square": len(job.name) ** 2}


def first_time(job):
    mark = Path(job.folder) / f"{job.name}.mark"
    if mark.exists():
        return False
    mark.touch()
    return True


class Study:
    """Hands out its jobs; when `then` is given, those come after all first ones are finished."""

    def __init__(self, first, then=()):
        self.waiting, self.then, self.missing = list(first), list(then), len(first)
        self.taken = {}
        self.interrupted = False

    def ready(self):
        found, self.waiting = self.waiting, []
        if not self.missing:
            found, self.then = [*found, *self.then], []
        return found

    def take(self, job, outcome):
        assert job.name not in self.taken, "every job once"
        self.taken[job.name] = outcome
        self.missing -= 1
