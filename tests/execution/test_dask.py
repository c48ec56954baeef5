"""Against a real Dask scheduler and two real worker processes on the loopback interface."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mlcv_bench.errors import TrialsFailedError, UsageError
from mlcv_bench.execution.dask import DaskCluster
from mlcv_bench.execution.processes import Inline
from mlcv_bench.execution.scheduler import run_jobs
from mlcv_bench.report.formats.delimited import to_csv
from mlcv_bench.report.task_races import task_report
from mlcv_bench.task_race.race import prepare
from mlcv_bench.task_race.request import TaskRaceRequest
from mlcv_bench.task_race.training import run_job_plainly
from tests.execution.study import Job, Study, work

ROOT = Path(__file__).parent.parent.parent
pytest.importorskip("distributed")
# The client's background loop ends after the cluster does.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(*arguments, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


class Cluster:
    def __init__(self, folder):
        port = free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        self.folder = folder
        self.scheduler = start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", folder=folder)
        # Without nannies, so that a killed worker stays dead and its process is the one we know.
        self.workers = [self.worker() for _ in range(2)]

    def worker(self):
        return start(
            "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0",
            folder=self.folder,
        )  # fmt: skip

    def stop(self):
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def living(tmp_path_factory):
    """Return the cluster that is there, or after its scheduler's end another one."""
    made = []

    def cluster():
        if not made or made[-1].scheduler.poll() is not None:
            made.append(Cluster(tmp_path_factory.mktemp("cluster")))
        return made[-1]

    yield cluster
    for one in made:
        one.stop()


@pytest.fixture
def cluster(living):
    return living()


def connect(cluster):
    """Wait until both workers are there."""
    from distributed import Client

    with Client(cluster.address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    return DaskCluster(cluster.address)


def small_race():
    return prepare(TaskRaceRequest(optimizers=("sgd", "nesterov", "adam"), epochs=2, rates=4, seeds=2, target=0.8))


@pytest.fixture(scope="module")
def local_csv():
    race = small_race()
    run_jobs(race, run_job_plainly, Inline())
    return to_csv(task_report(race))


def test_a_cluster_gives_the_same_bytes(cluster, local_csv):
    race = small_race()
    run_jobs(race, run_job_plainly, connect(cluster))
    assert to_csv(task_report(race)) == local_csv


class KillsAWorker:
    """A watcher that kills one worker after some jobs, when others are running."""

    def __init__(self, process, after=2):
        self.process, self.left, self.running = process, after, 0

    def began(self, job):
        self.running += 1

    def ended(self, job, status, *, remembered):
        assert status == "done"
        self.running -= 1
        self.left -= 1
        if self.left == 0:
            assert self.running > 2, "jobs are under way on both workers"
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()


def test_a_killed_worker_loses_nothing(cluster, local_csv):
    race = small_race()
    watcher = KillsAWorker(cluster.workers[0])
    run_jobs(race, run_job_plainly, connect(cluster), watcher=watcher)
    assert watcher.left <= 0
    assert cluster.workers[0].returncode == -signal.SIGKILL
    cluster.workers[0] = cluster.worker()
    assert {result.status for result in race.results} == {"done"}
    assert to_csv(task_report(race)) == local_csv


def test_failures_on_a_cluster_are_outcomes(cluster):
    study = Study([Job("a"), Job("raises")])
    run_jobs(study, work, connect(cluster))
    assert study.taken["a"].record == {"name": "a", "square": 1}
    assert study.taken["raises"].reason.startswith("ValueError: boom; it failed in ")


class Interrupts:
    """A watcher that presses Ctrl-C after the first job."""

    def began(self, job):
        pass

    def ended(self, job, status, *, remembered):
        raise KeyboardInterrupt


def test_an_interruption_leaves_the_cluster_as_it_was(cluster):
    study = Study([Job("a"), Job("bb"), Job("ccc")])
    run_jobs(study, work, connect(cluster), watcher=Interrupts())
    assert study.interrupted
    assert len(study.taken) == 1
    again = Study([Job("dddd")])
    run_jobs(again, work, connect(cluster))
    assert again.taken["dddd"].record["square"] == 16


class KillsTheScheduler:
    """A watcher that kills the scheduler after the first job."""

    def __init__(self, process):
        self.process = process

    def began(self, job):
        pass

    def ended(self, job, status, *, remembered):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def test_a_lost_scheduler_is_one_sentence(cluster):
    """The last that needs a cluster, so that no other has to be started."""
    with pytest.raises(TrialsFailedError, match="--resume"):
        run_jobs(small_race(), run_job_plainly, connect(cluster), watcher=KillsTheScheduler(cluster.scheduler))


def test_nobody_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr("mlcv_bench.execution.dask.SECONDS_TO_CONNECT", 1)
    with pytest.raises(UsageError, match="no Dask scheduler answers"):
        DaskCluster(f"tcp://127.0.0.1:{free_port()}")


@pytest.mark.parametrize("scheme", ["ucx", "tls"])
def test_what_dask_lacks_for_an_address_is_one_sentence(scheme, capfd):
    with pytest.raises(UsageError, match=f"--scheduler {scheme}://127.0.0.1:1 cannot be reached from here"):
        DaskCluster(f"{scheme}://127.0.0.1:1")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("address", ["localhost:8786", "tcp://host", "http://host:1", "tcp://host:x"])
def test_an_address_is_checked(address):
    with pytest.raises(UsageError, match="write tcp://host:8786"):
        DaskCluster(address)
