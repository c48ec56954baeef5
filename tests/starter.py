"""Runs code in forks of a process that has imported libraries once: `python starter.py LIBRARY...`, a line each."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import traceback


def begin(asked):
    """Make this fork what a fresh process would be: its streams, folder, variables, arguments and path."""
    for number, (path, flags) in enumerate(
        [(os.devnull, os.O_RDONLY), (asked["out"], os.O_WRONLY | os.O_CREAT), (asked["err"], os.O_WRONLY | os.O_CREAT)]
    ):
        os.dup2(os.open(path, flags), number)
    signal.alarm(asked["timeout"])
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv[1:] = asked["arguments"]
    sys.path[0] = asked["cwd"]


def run(code):
    """Run code as an interpreter does, and return its exit code."""
    try:
        exec(code, {"__name__": "__main__"})  # noqa: S102 - a test's own
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        sys.stderr.write(f"{leaving.code}\n")
        return 1
    except BaseException:  # noqa: BLE001 - an interpreter shows every one
        traceback.print_exc()
        return 1
    return 0


def serve():
    """Fork for every request, and answer with how the fork ended."""
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            begin(asked)
            code = run(asked["code"])
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            # Taking down the libraries that the parent has imported would take a second: each of their pages is copied.
            os._exit(code)
        status = os.waitpid(child, 0)[1]
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        # Those of an extra need not be here.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    serve()
