"""The table of limits: what a suite may ask of a command's result, and how each is written."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlcv_bench.names import share_of
from mlcv_bench.optimizers.rule import proper

LARGEST = sys.float_info.max
LONGEST_S = 31_536_000
"""A year: no command of a suite takes longer, and no clock that waits for one takes much more."""
DEFAULT_TIMEOUT_S = 3600.0
SMALLER = "smaller"
"""The one word of `allow`: what became smaller or better than the baseline passes."""
NO_ACCURACY = "a surface has no accuracy; write must_reach = true, or optimizers"


class LimitError(ValueError):
    """A limit's value makes no sense; the text says what would."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One key of a suite's entry: which commands it fits, and how its value is read."""

    name: str
    commands: tuple[str, ...]
    read: Callable[[Any], Any]
    column: str = ""
    """The column that it bounds from above, where it is such a limit."""
    unit: str = ""
    against_baseline: bool = False
    interval: bool = False
    """Whether its column has an interval, in two more: p90_low_s and p90_high_s of p90_s."""


def amount(value: Any) -> float:  # noqa: ANN401 - whatever TOML holds
    """Read a finite number above zero; a whole one stays whole, 4.3e9 too."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LARGEST:
        raise LimitError(f"takes a number above 0, such as 25_000_000 or 4.3e9, not {shown(value)}")
    return int(value) if float(value).is_integer() else value


def share(value: Any) -> float:  # noqa: ANN401 - whatever TOML holds
    """Read "5%", 0.05 or "150%" as a share above 0; a bare number is below 1, since 5 may be meant as 5%."""
    number = share_of(value if isinstance(value, str) else str(value), whole=True)
    if isinstance(value, bool) or number is None:
        raise LimitError(f'takes a share above 0%, such as "5%", 0.05 or "150%", not {shown(value)}')
    return number


def only_true(value: Any) -> bool:  # noqa: ANN401 - whatever TOML holds
    """Read `true`; anything else would be a limit that cannot fail."""
    if value is not True:
        raise LimitError(f"takes true, or is left out, not {shown(value)}")
    return True


def allowance(value: Any) -> str:  # noqa: ANN401 - whatever TOML holds
    """Read the one word that `allow` takes."""
    if value != SMALLER:
        raise LimitError(f'takes "{SMALLER}", or is left out, not {shown(value)}')
    return SMALLER


def reach(value: Any) -> bool | float | tuple[str, ...]:  # noqa: ANN401 - whatever TOML holds
    """Read true (every run), names of optimizers (every run of theirs), or an accuracy (on a task)."""
    if value is True:
        return True
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    if isinstance(value, list) and value and all(isinstance(name, str) and name for name in value):
        return tuple(value)
    raise LimitError(
        f'takes true, optimizers as ["adam", "newton"], or on a task an accuracy up to 1, not {shown(value)}'
    )


def is_run_of(label: str, name: str) -> bool:
    """Tell whether a run's label is of the optimizer: by its whole label, or by its name for whatever settings."""
    return label == name or label.startswith(f"{name}:")


def unreachable(allowed: bool | float | tuple[str, ...], race: Any) -> str:  # noqa: ANN401 - a request on a surface or a task
    """Say why no result of a race can keep to `must_reach`, as a clause; empty where one can."""
    if isinstance(allowed, float) and not hasattr(race, "tasks"):
        return NO_ACCURACY
    names = allowed if isinstance(allowed, tuple) else ()
    labels = [proper(one) for one in race.optimizers]
    absent = [name for name in names if not any(is_run_of(label, name) for label in labels)]
    return f"names {', '.join(absent)}, which its command does not race; it races {', '.join(labels)}" if absent else ""


def mistaken(limits: Mapping[str, Any], asked: Any) -> str:  # noqa: ANN401 - a request of `verify`
    """Say why a limit does not fit what a `verify` is asked, as a key and a clause; empty where all do."""
    if "must_compute_same" in limits and not asked.fingerprint:
        return "'must_compute_same' holds fingerprints against the baseline; add --fingerprint to its command"
    if "must_verify" in limits and asked.fingerprint:
        return "'must_verify' has nothing to judge with --fingerprint; write must_compute_same = true"
    return ""


def shown(value: Any) -> str:  # noqa: ANN401 - whatever TOML holds
    """Write a value the way TOML does, as far as a message needs it."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else f"{value!r:.60}"


COUNTED = ("flops", "params")
LIMITS: dict[str, Limit] = {
    limit.name: limit
    for limit in (
        Limit("max_params", (*COUNTED, "time"), amount, column="params"),
        Limit("max_macs", (*COUNTED, "time"), amount, column="macs"),
        Limit("max_activations", COUNTED, amount, column="activations"),
        Limit("max_weight_bytes", COUNTED, amount, column="weight_bytes", unit="B"),
        Limit("max_peak_activation_bytes", COUNTED, amount, column="peak_activation_bytes", unit="B"),
        Limit("max_median_s", ("time",), amount, unit="s"),
        *(Limit(f"max_{name}_s", ("time",), amount, f"{name}_s", "s", interval=True) for name in ("p90", "p95", "p99")),
        Limit("min_images_per_s", ("time",), amount, unit="images/s"),
        Limit("max_peak_bytes", ("time",), amount, column="peak_bytes", unit="B"),
        Limit("max_resident_bytes", ("time",), amount, column="resident_bytes", unit="B"),
        Limit("must_resolve", ("time", "ab"), share),
        Limit("max_slowdown", ("time", "ab"), share, unit="times", against_baseline=True),
        Limit("must_verify", ("verify",), only_true, unit="checks"),
        Limit("must_reach", ("optim-race",), reach),
        Limit("must_compute_same", ("verify",), only_true, unit="changes", against_baseline=True),
        Limit(
            "must_match_baseline",
            (*COUNTED, "time", "verify", "optim-race", "claims"),
            only_true,
            unit="changes",
            against_baseline=True,
        ),
    )
}
"""Every limit by its name; the validation, the judging and docs/ci.md follow this table."""

OWN_OPTIONS = {("ab", "max_slowdown"): "--margin"}
"""A limit that its command has an option for, so that it measures until that limit is decided."""

OWN_CHECK = {"ab": "max_slowdown", "verify": "must_verify"}
"""A limit that takes the place of the check by which the command itself ends with 1."""


def needs_baseline(command: str, limit: Limit) -> bool:
    """Tell whether a limit of this command is held against the stored baseline; `ab` brings its own."""
    return limit.against_baseline and command != "ab"


@dataclass(frozen=True)
class Entry:
    """One command of a suite, with what its result has to keep to."""

    name: str
    arguments: tuple[str, ...]
    limits: Mapping[str, Any]
    timeout_s: float = DEFAULT_TIMEOUT_S
    allow: str = ""

    @property
    def study(self) -> str:
        """The command's name: flops, time ..."""
        return self.arguments[0]

    @property
    def command(self) -> str:
        """The command as it would be typed."""
        return shlex.join(["mlcv-bench", *self.arguments])

    @property
    def needs_baseline(self) -> bool:
        """Whether a limit is held against a stored baseline."""
        return any(needs_baseline(self.study, LIMITS[name]) for name in self.limits)
