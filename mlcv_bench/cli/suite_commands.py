"""Checking a suite's commands before any runs: Typer reads their options, and the tables their names.

Neither torch nor anybody's own file is imported for that: what a specification names is checked in its entry's process.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any

import typer

from mlcv_bench.errors import UsageError

TAKEN = ("-o", "--output", "--format")
"""Options that `run` gives to every command itself."""


def check_command(arguments: Sequence[str]) -> None:
    """Refuse arguments that their command would refuse, without running it.

    Raises:
        UsageError: no such command, a wrong option or value, an unknown name.

    """
    from mlcv_bench.cli.app import COMMANDS, load_command, usage_sentence
    from mlcv_bench.names import near_misses

    name, rest = arguments[0], list(arguments[1:])
    if name == "run":
        raise UsageError("a suite cannot run a suite; give its entries here")
    if name not in COMMANDS:
        close = near_misses(name, COMMANDS)
        hint = f"did you mean {' or '.join(close)}?" if close else "`mlcv-bench --help` lists all"
        raise UsageError(f"no command '{name}'; {hint}")
    command = load_command(name)
    asked = [word.partition("=")[0] for word in rest]
    if taken := [word for word in asked if word in TAKEN or (word.startswith("-o") and not word.startswith("--"))]:
        raise UsageError(f"leave {taken[0]} out; `run` decides where results go, with its own -o")
    if "--help" in asked or "-h" in asked:
        raise UsageError("--help runs nothing; leave it out")
    try:
        context = command.make_context(name, rest)
    except typer.TyperException as error:
        shown = error.format_message() if hasattr(error, "format_message") else str(error)
        raise UsageError(usage_sentence(shown, error)) from error
    # Typer makes its paths only when it calls the command.
    paths = {option.name for option in command.params if option.type.name == "path"}
    given = {
        key: Path(value) if key in paths and isinstance(value, str) else value for key, value in context.params.items()
    }
    if not {"output", "form"} <= given.keys():
        raise UsageError(f"`{name}` saves no result that a suite could judge")
    if name in CHECKS:
        CHECKS[name]({**given, "context": context})


def check_counted(given: dict[str, Any]) -> None:
    """Check what `flops` and `params` count."""
    from mlcv_bench.cli.flops import check_combination, requested

    asked = [flag for flag in ("audit", "reconcile", "training") if given.get(flag)]
    check_combination(asked, given.get("optimizer"), given.get("memory"), given["batches"], given["sort"], given["top"])
    if names := built_in(given["names"]):
        requested(names, given["settings"], given["inputs"])


def check_shown(command: str, given: dict[str, Any], *names: str) -> None:
    """Check networks that a command shows one by one."""
    from mlcv_bench.cli.options import one_request

    for name in built_in(names):
        one_request(command, name, given["settings"], given["inputs"])


def check_networks(given: dict[str, Any]) -> None:
    """Check architectures with their settings and input."""
    from mlcv_bench.architectures.request import resolve
    from mlcv_bench.cli.options import parse_shape
    from mlcv_bench.names import parse_settings

    settings = parse_settings(given["settings"] or [])
    shape = parse_shape(given["shape"]) if given["shape"] is not None else None
    if known := built_in(given["names"]):
        resolve(known, settings=settings, input=shape)


def built_in(names: Sequence[str], table: Container[str] = ()) -> list[str]:
    """Return the names that no code outside this package decides on; `table` may take settings after a colon."""
    from mlcv_bench.names import is_specification

    return [name for name in names if not is_specification(name) or name.partition(":")[0] in table]


def check_time(given: dict[str, Any]) -> None:
    """Check what `time` measures, and how."""
    from mlcv_bench.cli import time
    from mlcv_bench.timing.cells import DTYPES, MEMORY_FORMATS, PASSES, RUNTIMES

    check_networks(given)
    time.parse_share(given["precision"])
    time.check_paths(given["weights"], given["store"], resume=given["resume"])
    time.devices(given["device"])
    for option, key, known in (
        ("--runtime", "runtime", RUNTIMES),
        ("--dtype", "dtype", DTYPES),
        ("--memory-format", "memory_format", MEMORY_FORMATS),
        ("--pass", "passes", PASSES),
    ):
        time.chosen(option, given[key], known, known[0])
    time.numbers("--batch", given["batch"], 1)
    time.numbers("--threads", given["threads"], 1)
    if "onnx" in time.chosen("--runtime", given["runtime"], RUNTIMES, RUNTIMES[0]):
        time.require_onnx()
    if given["dry_run"]:
        raise UsageError("--dry-run measures nothing; leave it out")


def check_ab(given: dict[str, Any]) -> None:
    """Check both sides of `ab`, except which devices are here."""
    from mlcv_bench.cli.ab import check_places, parse_cell, parse_margin, sides_of

    parse_margin(given["margin"])
    pythons, paths = ((given[f"base_{kind}"], given[f"head_{kind}"]) for kind in ("python", "path"))
    check_places(given["head"], pythons, paths)
    sides = [side for side in (given["base"], given["head"]) if side is not None]
    # Which devices there are is known to torch alone.
    known = [side for side in sides if "--device" not in side and built_in(side.split()[:1])]
    if len(known) == len(sides):
        sides_of(given["base"], given["head"], given["seed"])
    for side in known:
        parse_cell(side, given["seed"])


def check_verify(given: dict[str, Any]) -> None:
    """Check everything that `verify` is asked."""
    from mlcv_bench.cli.options import check_device, parse_shape
    from mlcv_bench.cli.verify import parse_numbers
    from mlcv_bench.equivalence.request import VerifyRequest

    check_device(given["device"])
    VerifyRequest(
        tuple(given["subjects"]),
        given["device"],
        tuple(part.strip() for part in given["dtype"].split(",")),
        given["seed"],
        parse_numbers("--groups", given["groups"]),
        parse_numbers("--width", given["width"]) if given["width"] is not None else (),
        parse_numbers("--channels", given["channels"]),
        tuple(part.strip() for part in given["mode"].split(",")),
        given["trials"],
        parse_shape(given["shape"]) if given["shape"] is not None else None,
        given["transplant"],
        tuple(Path(path) for path in given["weights"] or []),
        given["keep_weights"],
    ).check()


def check_race(given: dict[str, Any]) -> None:
    """Check the surface or the task of `optim-race`, its optimizers and its limits."""
    from mlcv_bench.cli.racing_options import check_engine
    from mlcv_bench.cli.task_race import refuse_strangers
    from mlcv_bench.optimizers import rule
    from mlcv_bench.surface_race.race import PROTOCOLS, check_limits
    from mlcv_bench.surfaces import catalog

    refuse_strangers(given["context"], on_task=bool(given["task"]))
    for name in built_in(given["optimizer"] or [], rule.RULES):
        rule.find(name)
    if given["task"]:
        check_task_race(given)
        return
    check_engine(given["engine"])
    options = ("condition", "dim", "batch_size", "rotate", "noise")
    for name in built_in([given["surface"]], catalog.SURFACES):
        catalog.find(name, **{option: given[option] for option in options})
    check_limits(given["steps"], given["target"], given["protocol"] or PROTOCOLS)


def check_task_race(given: dict[str, Any]) -> None:
    """Check a race on tasks; 1 stands for a number that was left out, since the defaults are right."""
    from mlcv_bench.cli.task_race import check_store, check_workers, was_given
    from mlcv_bench.task_race.request import TASK_PROTOCOLS, check_data_of, check_request

    check_store(given["store"], resume=given["resume"])
    check_workers(given["workers"], given["scheduler"])
    check_request(
        given["task"],
        models=given["model"] or (),
        batch_size=1 if given["batch_size"] is None else given["batch_size"],
        epochs=given["epochs"],
        seeds=1 if given["seeds"] is None else given["seeds"],
        target=given["target"] if was_given(given["context"], "target") else None,
        schedule=given["schedule"] or "constant",
        protocols=given["protocol"] or TASK_PROTOCOLS,
        rates=36 if given["rates"] is None else given["rates"],
        image_size=32 if given["image_size"] is None else given["image_size"],
    )
    check_data_of(given["task"], str(given["data"]) if given["data"] is not None else None)


def check_claims(given: dict[str, Any]) -> None:
    """Check the ids and sections of `claims`."""
    from mlcv_bench.claims.catalog import select

    if given["ids"] and given["sections"]:
        raise UsageError("give --id or --section, not both")
    select(given["ids"] or [], given["sections"] or [], everything=given["everything"])


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "flops": check_counted,
    "params": check_counted,
    "summary": lambda given: check_shown("summary", given, given["name"]),
    "diff": lambda given: check_shown("diff", given, given["first"], given["second"]),
    "time": check_time,
    "ab": check_ab,
    "verify": check_verify,
    "optim-race": check_race,
    "claims": check_claims,
}
"""What else is known to be wrong before a command runs; the other commands say it when they do."""
