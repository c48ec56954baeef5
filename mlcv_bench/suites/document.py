"""Reading a suite: a TOML file, checked completely before anything runs."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlcv_bench.comparing.limits import (
    DEFAULT_TIMEOUT_S,
    LIMITS,
    LONGEST_S,
    OWN_OPTIONS,
    Entry,
    LimitError,
    allowance,
    mistaken,
    unreachable,
)
from mlcv_bench.errors import BenchError, UsageError
from mlcv_bench.names import bounded_text, did_you_mean, first_line

LARGEST = 2**20
"""Bytes of a suite."""
TOP = ("title", "baseline", "defaults", "entries")
DEFAULT_KEYS = ("timeout_s", "allow", *LIMITS)
"""What `[defaults]` gives every entry that takes it and says nothing else; and `[defaults.options]`."""
OWN_KEYS = ("command", "timeout_s", "allow")
ENTRY_NAME = re.compile(r"[\w.+-]+(?: [\w.+-]+)*")


@dataclass(frozen=True)
class Suite:
    """A whole suite: where it came from, its entries in the file's order, and where its baseline lies."""

    path: Path
    title: str
    baseline: Path
    entries: tuple[Entry, ...]

    def only(self, names: Sequence[str]) -> Suite:
        """Return the suite with the named entries alone, all of them if none is named.

        Raises:
            UsageError: it has no such entry.

        """
        known = [entry.name for entry in self.entries]
        for name in names:
            if name not in known:
                raise UsageError(f"--only {name}: {self.path} has no such entry; {_hint(name, known)}")
        return replace(self, entries=tuple(entry for entry in self.entries if not names or entry.name in names))


def read_suite(path: Path, check_command: Callable[[Sequence[str]], Any]) -> Suite:
    """Read a suite and check everything that can be known before it runs.

    Args:
        path: the TOML file; its baseline is found from its folder.
        check_command: returns what a command with such arguments is asked, its study's request; raises a BenchError
            for arguments that it would refuse.

    Raises:
        UsageError: no such file, no TOML, an unknown table or key, a limit that does not fit, a wrong command.
            The message names the first fault's file, table and key, and says how many more there are.

    """
    try:
        document = tomllib.loads(bounded_text(path, LARGEST))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; give a suite, such as smoke.toml") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {first_line(error)}") from error
    reading = _Reading(check_command)
    suite = reading.suite(path, document)
    if reading.faults:
        more = f" (and {len(reading.faults) - 1} more to mend in this file)" if len(reading.faults) > 1 else ""
        raise UsageError(f"{path}: {reading.faults[0]}{more}")
    return suite


class _Reading:
    """One reading of a suite, which goes on after a fault to find them all."""

    def __init__(self, check_command: Callable[[Sequence[str]], Any]) -> None:
        """Start without faults."""
        self.check_command = check_command
        self.faults: list[str] = []
        self.defaults: dict[str, Any] = {}
        self.options: dict[str, list[str]] = {}
        """The words that every entry of a command gets."""
        self.asked: Any = None
        """What the last command that was checked is asked."""

    def suite(self, path: Path, document: dict[str, Any]) -> Suite:
        """Read the whole document."""
        self.faults += [f"no top-level key '{key}'; {_hint(key, TOP)}" for key in document if key not in TOP]
        words = {"title": path.stem.encode("utf-8", "replace").decode(), "baseline": f"{path.stem}.baseline.json"}
        for key in [key for key in words if key in document]:
            words[key] = document[key]
            if not isinstance(words[key], str) or not words[key].strip():
                self.faults.append(f"key '{key}' takes a text, not {document[key]!r}")
                return Suite(path, path.stem, path, ())
        if not words["baseline"].endswith(".json"):
            self.faults.append(f"key 'baseline' takes a .json file, not {words['baseline']!r}")
        tables = document.get("entries")
        if not isinstance(tables, dict) or not tables:
            self.faults.append('no entries; write a table [entries.NAME] with command = "flops resnet50"')
            tables = {}
        self._read_defaults(document.get("defaults", {}))
        entries = [self._entry(name, table) for name, table in tables.items()]
        return Suite(path, words["title"], path.parent / words["baseline"], tuple(filter(None, entries)))

    def _read_defaults(self, table: Any) -> None:  # noqa: ANN401 - TOML
        """Read `[defaults]`: keys for every entry, and under `options` words for every entry of a command."""
        known = (*DEFAULT_KEYS, "options")
        options = table.get("options", {}) if isinstance(table, dict) else None
        if not isinstance(options, dict):
            self.faults.append("defaults is no table; write [defaults] with must_match_baseline = true, say")
            return
        self.faults += [f"[defaults] has no key '{key}'; {_hint(key, known)}" for key in table if key not in known]
        self.defaults = {key: table[key] for key in DEFAULT_KEYS if key in table}
        for command, text in options.items():
            if (words := self._words(f"[defaults.options], key '{command}'", text)) is not None:
                self.options[command] = words

    def _with_defaults(self, table: dict[str, Any], command: str) -> dict[str, Any]:
        """Return an entry's keys with the defaults that its command takes; one that is `false` is off."""
        fitting = {
            key: value for key, value in self.defaults.items() if key not in LIMITS or command in LIMITS[key].commands
        }
        return {
            key: value for key, value in {**fitting, **table}.items() if value is not False or key not in self.defaults
        }

    def _entry(self, name: str, table: Any) -> Entry | None:  # noqa: ANN401 - TOML
        place = f"[entries.{name}]"
        if not ENTRY_NAME.fullmatch(name):
            self.faults.append(f"{place}: a name is made of letters, digits, spaces and . + - _")
            return None
        if not isinstance(table, dict):
            self.faults.append(f"entries.{name} is no table; write {place} with command = ...")
            return None
        known = (*OWN_KEYS, *LIMITS)
        self.faults += [f"{place} has no key '{key}'; {_hint(key, known)}" for key in table if key not in known]
        arguments = self._arguments(place, table.get("command"))
        if arguments is None:
            return None
        table = self._with_defaults(table, arguments[0])
        limits = self._limits(place, table, arguments[0])
        allow = self._allowed(place, table, limits)
        timeout = table.get("timeout_s", DEFAULT_TIMEOUT_S)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST_S:
            self.faults.append(
                f"{place}, key 'timeout_s' takes seconds above 0 and up to {LONGEST_S}, not {timeout!r:.40}"
            )
            return None
        return Entry(name, self._with_limits(place, arguments, limits), limits, float(timeout), allow)

    def _limits(self, place: str, table: Mapping[str, Any], command: str) -> dict[str, Any]:
        """Read the limits among an entry's keys."""
        limits = {}
        for key in (key for key in table if key in LIMITS):
            try:
                limits[key] = LIMITS[key].read(table[key])
            except LimitError as error:
                self.faults.append(f"{place}, key '{key}' {error}")
            if command not in LIMITS[key].commands:
                fits = [limit.name for limit in LIMITS.values() if command in limit.commands]
                takes = f"which takes {', '.join(fits)}" if fits else "which takes no limit"
                self.faults.append(f"{place}, key '{key}' does not fit `{command}`, {takes}")
        if command == "optim-race" and (fault := unreachable(limits.get("must_reach", True), self.asked)):
            self.faults.append(f"{place}, key 'must_reach': {fault}")
        if command == "verify" and (fault := mistaken(limits, self.asked)):
            self.faults.append(f"{place}, key {fault}")
        return limits

    def _allowed(self, place: str, table: Mapping[str, Any], limits: Mapping[str, Any]) -> str:
        """Read what `allow` says, which means something beside must_match_baseline alone."""
        if "allow" not in table:
            return ""
        if "must_match_baseline" not in limits and "allow" not in self.defaults:
            self.faults.append(f"{place}, key 'allow' belongs to must_match_baseline = true; add that, or leave it out")
        try:
            return allowance(table["allow"])
        except LimitError as error:
            self.faults.append(f"{place}, key 'allow' {error}")
            return ""

    def _with_limits(self, place: str, arguments: tuple[str, ...], limits: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the arguments with the options that limits set; to give such an option as well is a fault."""
        for (command, key), option in OWN_OPTIONS.items():
            if arguments[0] != command or key not in limits:
                continue
            if any(word.partition("=")[0] == option for word in arguments):
                self.faults.append(f"{place}, key 'command': leave {option} out; '{key}' decides it")
                continue
            arguments = (*arguments, option, f"{limits[key] * 100:g}%")
            self._checked(f"{place}, key '{key}'", arguments)
        return arguments

    def _words(self, place: str, text: Any) -> list[str] | None:  # noqa: ANN401 - TOML
        try:
            words = shlex.split(text) if isinstance(text, str) else text
        except ValueError as error:
            self.faults.append(f"{place}: {str(error).lower()} in {text!r}")
            return None
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            self.faults.append(f"{place} takes words as they are typed, as a text or a list, not {text!r:.40}")
            return None
        return words

    def _arguments(self, place: str, command: Any) -> tuple[str, ...] | None:  # noqa: ANN401 - TOML
        if not command:
            self.faults.append(
                f"{place} needs the key 'command', such as command = \"flops resnet50\", or a list of words"
            )
            return None
        words = self._words(f"{place}, key 'command'", command)
        if words is None:
            return None
        arguments = tuple(words[1:] if words[0] == "mlcv-bench" else words)
        if not arguments:
            self.faults.append(f"{place}, key 'command' names no command; write command = \"flops resnet50\"")
            return None
        arguments = (*arguments, *_left(self.options.get(arguments[0], ()), arguments))
        return arguments if self._checked(f"{place}, key 'command'", arguments) else None

    def _checked(self, place: str, arguments: tuple[str, ...]) -> bool:
        try:
            self.asked = self.check_command(arguments)
        except BenchError as error:
            self.faults.append(f"{place}: {error}")
            return False
        return True


def _left(options: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the options, each with its value, that the words do not give themselves."""
    given = {word.partition("=")[0] for word in words}
    kept, keeping = [], True
    for word in options:
        if word.startswith("--"):
            keeping = word.partition("=")[0] not in given
        kept += [word] if keeping else []
    return kept


def _hint(name: str, known: Sequence[str]) -> str:
    return did_you_mean(name, known, f"there are {', '.join(known)}")
