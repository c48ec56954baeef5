"""An existing Dask cluster as workers: its client hands out a `concurrent.futures.Executor`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from concurrent.futures import Executor
from typing import Any

from mlcv_bench.errors import UsageError
from mlcv_bench.extras import require
from mlcv_bench.names import first_line

SECONDS_TO_CONNECT = 10
PLENTY = 10_000


def check_address(address: str) -> None:
    """Refuse a malformed address of a scheduler, and a machine without the extra.

    Raises:
        UsageError: not of the form tcp://host:port.
        MissingExtraError: Dask is not installed.

    """
    if not re.fullmatch(r"(tcp|tls|ws|wss|ucx)://[^\s/]+:\d+", address):
        raise UsageError(f"--scheduler {address} is no address; write tcp://host:8786")
    require("cluster", "--scheduler")


async def _greet(address: str) -> None:
    """Connect to a scheduler and leave.

    Raises:
        OSError: nothing that speaks Dask's protocol answers.
        TypeError: Dask lacks what the address needs, such as certificates or a library.

    """
    import distributed  # noqa: PLC0415 - the extra is needed here alone

    untyped: Any = distributed
    arguments = untyped.Security().get_connection_args("client")
    communication = await untyped.comm.connect(address, timeout=SECONDS_TO_CONNECT, **arguments)
    await communication.close()


class DaskCluster:
    """The workers of a Dask scheduler, which retries by itself what a dying worker had begun."""

    slots = PLENTY
    """Dask queues jobs itself: it gets all that are ready."""

    def __init__(self, address: str) -> None:
        """Connect to the scheduler at `address`.

        Raises:
            UsageError: no scheduler answers there, Dask's versions do not fit, or Dask lacks what the address needs.

        """
        check_address(address)
        from distributed import Client  # noqa: PLC0415 - the extra is needed here alone

        # Its heartbeat reports a lost connection on every retry; `run_jobs` says it once.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self.address = address
        connect: Any = Client
        try:
            # A client that never connected waits half a minute to be closed, and says so.
            asyncio.run(_greet(address))
            self._client = connect(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {address} within {SECONDS_TO_CONNECT} s; start one with `dask scheduler`"
            ) from error
        except (TypeError, RuntimeError, ImportError) as error:
            raise UsageError(f"--scheduler {address} cannot be reached from here: {first_line(error)}") from error
        # Dask must not take jobs for pure functions: its cache would answer instead of running them.
        self.executor: Executor = self._client.get_executor(pure=False)

    @property
    def workers(self) -> int:
        """How many worker processes the scheduler knows now."""
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    def rebuild(self) -> None:
        """Do nothing: Dask's nannies restart their workers."""

    def stop(self, *, at_once: bool) -> None:
        """Take back what has not run, and leave; the cluster stays."""
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            if at_once:
                # Dask's executor cancels what has not run when it need not wait; it has no `cancel_futures`.
                self.executor.shutdown(wait=False)
            self._client.close(timeout=SECONDS_TO_CONNECT)
