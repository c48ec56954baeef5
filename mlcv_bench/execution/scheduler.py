"""The one loop that runs a study's jobs: hand out, store at once, retry after a death, stop cleanly."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from mlcv_bench.errors import TrialsFailedError
from mlcv_bench.execution.processes import Workers
from mlcv_bench.execution.store import Store
from mlcv_bench.trials import Outcome, outcome_after

ATTEMPTS = 2
"""How often a job may kill a worker that runs nothing else before it is reported as failed."""


class HasKey(Protocol):
    """A job: what it is known by in a store."""

    @property
    def key(self) -> str:
        """The digest of all that decides its result."""
        ...


J = TypeVar("J", bound=HasKey)
J_contra = TypeVar("J_contra", bound=HasKey, contravariant=True)


class Study(Protocol[J]):
    """What hands out jobs and takes what became of them; later jobs may depend on earlier ones."""

    interrupted: bool

    def ready(self) -> Sequence[J]:
        """Return the jobs that can run now, each once."""
        ...

    def take(self, job: J, outcome: Outcome) -> None:
        """Receive what became of a job."""
        ...


class Watcher(Protocol[J_contra]):
    """Follows how far a run is."""

    def began(self, job: J_contra) -> None:
        """A job was handed out."""
        ...

    def ended(self, job: J_contra, status: str, *, remembered: bool) -> None:
        """A job is finished; `remembered` says that the store knew it."""
        ...


def run_jobs(
    study: Study[J],
    function: Callable[[J], Any],
    workers: Workers,
    *,
    store: Store | None = None,
    watcher: Watcher[J] | None = None,
) -> None:
    """Run every job of a study; a failing one is an outcome, and costs the others nothing.

    Args:
        study: hands out the jobs; its `interrupted` is set when Ctrl-C ended the run.
        function: what a worker does with a job; it returns plain values, and can be pickled.
        workers: where it does it.
        store: every finished job is appended to it before the next is looked at; jobs it knows are not run.
        watcher: follows every job.

    Raises:
        TrialsFailedError: the cluster's scheduler is gone, so nothing more can run.

    """
    loop = _Loop(study, function, workers, store, watcher)
    finished = False
    try:
        loop.run()
        finished = True
    except KeyboardInterrupt:
        study.interrupted = True
    finally:
        workers.stop(at_once=not finished)


@dataclass
class _Loop:
    study: Study[Any]
    function: Callable[[Any], Any]
    workers: Workers
    store: Store | None
    watcher: Watcher[Any] | None
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    queue: deque[Any] = field(default_factory=deque)
    suspects: deque[Any] = field(default_factory=deque)
    """What may have killed a worker: it ran when one died."""
    deaths: dict[str, int] = field(default_factory=dict)
    running: dict[Future[Any], Any] = field(default_factory=dict)

    def run(self) -> None:
        if self.store is not None:
            self.known = {key: lines[-1] for key, lines in self.store.of_kind("job").items()}
        self.refill()
        while self.queue or self.suspects or self.running:
            self.hand_out()
            done, _ = wait(self.running, return_when=FIRST_COMPLETED)
            broken = [future for future in done if isinstance(_error_of(future), BrokenExecutor)]
            for future in done:
                if future not in broken:
                    self.finish(self.running.pop(future), future)
            if broken:
                self.mend()
            self.refill()

    def refill(self) -> None:
        """Take the study's new jobs; those that the store knows are answered from it, which may make more ready."""
        while jobs := self.study.ready():
            for job in jobs:
                line = self.known.get(job.key)
                if line is None:
                    self.queue.append(job)
                    continue
                self.study.take(job, Outcome(line["status"], line["record"], line["reason"]))
                if self.watcher is not None:
                    self.watcher.ended(job, line["status"], remembered=True)

    def hand_out(self) -> None:
        """Submit as many jobs as there are slots; a suspect of having killed a worker runs alone."""
        if self.suspects:
            if not self.running:
                self.submit(self.suspects.popleft())
            return
        while self.queue and len(self.running) < self.workers.slots:
            if not self.submit(self.queue.popleft()):
                return

    def submit(self, job: Any) -> bool:  # noqa: ANN401 - the study's own kind of job
        if self.watcher is not None:
            self.watcher.began(job)
        try:
            future = self.workers.executor.submit(self.function, job)
        except BrokenExecutor as error:
            # It broke between two looks: the job never began, and is tried like those that were running.
            future = Future()
            future.set_exception(error)
        self.running[future] = job
        return not future.done() or _error_of(future) is None

    def mend(self) -> None:
        """Rebuild broken workers; what they were running is tried again, one job at a time."""
        # Every future of a broken pool fails; waiting says which had finished before it broke.
        wait(self.running, timeout=60)
        alone = len(self.running) == 1
        for future, job in self.running.items():
            error = _error_of(future) if future.done() else None
            if future.done() and not isinstance(error, BrokenExecutor):
                self.finish(job, future)
                continue
            if alone:
                self.deaths[job.key] = self.deaths.get(job.key, 0) + 1
            if self.deaths.get(job.key, 0) >= ATTEMPTS:
                reason = f"the worker process died {ATTEMPTS} times on it: out of memory, or killed"
                self.end(job, Outcome("failed", reason=reason))
            else:
                self.suspects.append(job)
        self.running.clear()
        self.workers.rebuild()

    def finish(self, job: Any, future: Future[Any]) -> None:  # noqa: ANN401 - the study's own kind of job
        error = _error_of(future)
        if isinstance(error, CancelledError):
            raise TrialsFailedError("the cluster's scheduler is gone; what was finished is stored: go on with --resume")
        if error is None:
            outcome = Outcome("done", future.result())
        elif type(error).__name__ == "KilledWorker":
            outcome = Outcome("failed", reason="the cluster's workers died on it: out of memory, or killed")
        else:
            outcome = outcome_after(error)
        self.end(job, outcome)

    def end(self, job: Any, outcome: Outcome) -> None:  # noqa: ANN401 - the study's own kind of job
        if self.store is not None:
            line = {"status": outcome.status, "reason": outcome.reason, "record": outcome.record}
            self.store.append("job", job.key, line)
        self.study.take(job, outcome)
        if self.watcher is not None:
            self.watcher.ended(job, outcome.status, remembered=False)


def _error_of(future: Future[Any]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as error:
        return error
