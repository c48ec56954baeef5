"""What was renamed: a former name goes on for one version and says so (docs/versions.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Renamed:
    """The name that took a former one's place, and the version that no longer knows the former."""

    new: str
    gone_in: str

    def sentence(self, former: str) -> str:
        """Return what its user is told."""
        return f"{former} is now {self.new}, and {former} is gone in mlcv-bench {self.gone_in}"


OPTIONS: Mapping[tuple[str, str], Renamed] = {}
"""By command and former option: `{("ab", "--limit"): Renamed("--margin", "0.4.0")}`."""
PUBLIC: Mapping[str, Renamed] = {}
"""By former attribute of `mlcv_bench`: `{"count_macs": Renamed("count", "0.4.0")}`."""


def renewed(command: str, words: Sequence[str], tell: Callable[[str], object]) -> Iterator[str]:
    """Yield a command's words with the present options for former ones, each of which `tell` is told once."""
    told = set()
    for word in words:
        former, equals, value = word.partition("=")
        renamed = OPTIONS.get((command, former))
        if renamed and former not in told:
            told.add(former)
            tell(renamed.sentence(former))
        yield f"{renamed.new}{equals}{value}" if renamed else word
