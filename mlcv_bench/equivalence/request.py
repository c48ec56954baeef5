"""What is asked of `verify`: subjects or two networks, and how they are compared. Checked without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.request import NamedInput, Request, check_weights, parse_settings
from mlcv_bench.counting.published import paper_width
from mlcv_bench.equivalence.subject import REGISTRY, SUBJECTS
from mlcv_bench.errors import UsageError
from mlcv_bench.names import check_choices, check_device, is_specification

if TYPE_CHECKING:
    from pathlib import Path

PAIR = 2
DTYPES = ("float64", "float32", "bfloat16", "float16")
MODES = ("train", "eval")
DEFAULT_DTYPES = ("float64", "float32")
DEFAULT_GROUPS = (2, 4, 8, 32)
DEFAULT_CHANNELS = (256,)
OPTIONS = {
    "groups": "--groups",
    "widths": "--width",
    "channels": "--channels",
    "dtypes": "--dtype",
    "modes": "--mode",
    "device": "--device",
}
"""The option behind each setting that a subject may use."""
USED_BY_NETWORKS = ("dtypes", "modes", "device")


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What is to be compared, and how; a subject uses the settings that concern it.

    `subjects` are names of the table, or two networks: names, specifications or modules. `dtypes` are those of the
    checks to rounding (the exact ones are always float64), `modes` those in which blocks and the user's own networks
    are compared (single convolutions have none, folding is for inference). `groups`, `widths` and `channels` are the
    notes' G, d and the block's channels; without widths each G has the d of the paper's table 2. `trials` seeds are
    counted up from `seed`. The rest is for two networks: `input` is the shape of one input without the batch axis,
    `transplant` (a specification or the function) turns a state dict of the first into one of the second, `weights`
    are files, one a network, and `keep_weights` says that no weights are drawn; `tensors` are what both take where
    that is not one tensor, and `settings` are texts for both builders. With `fingerprint` any number of networks is
    looked at instead, each alone, and held `against` a file of earlier fingerprints where one is given.
    """

    subjects: tuple[Any, ...] = ()
    device: str = "cpu"
    dtypes: tuple[str, ...] = DEFAULT_DTYPES
    seed: int = 0
    groups: tuple[int, ...] = DEFAULT_GROUPS
    widths: tuple[int, ...] = ()
    channels: tuple[int, ...] = DEFAULT_CHANNELS
    modes: tuple[str, ...] = MODES
    trials: int = 1
    input: tuple[int, ...] | None = None
    transplant: str | Callable[..., Any] | None = None
    weights: tuple[Path, ...] = ()
    keep_weights: bool = False
    tensors: tuple[NamedInput, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    fingerprint: bool = False
    against: Path | None = None

    @property
    def compares_networks(self) -> bool:
        """Whether networks are looked at: modules, specifications, or two names of networks."""
        return self.fingerprint or is_pair(self.subjects)

    def names(self) -> list[str]:
        """Return the names of the subjects, `all` replaced by every one, each once.

        Raises:
            UsageError: none is named, or one is unknown.

        """
        if not self.subjects:
            raise UsageError("no subject is named; try resnext, all, or `mlcv-bench list subjects`")
        names: dict[str, None] = {}
        for subject in self.subjects:
            if subject == "all":
                names.update(dict.fromkeys(SUBJECTS))
            else:
                names[REGISTRY.get(subject).name] = None
        return list(names)

    def branchings(self) -> Iterator[tuple[int, int]]:
        """Yield every G with every d."""
        for groups in self.groups:
            for width in self.widths or (paper_width(groups),):
                yield groups, width

    def check(self) -> None:
        """Refuse what cannot be compared; what a specification names is opened, and the device asked for, later.

        Raises:
            UsageError: a number, type, mode, subject, network or file that is not there, or options that contradict.

        """
        self.check_settings()
        if self.against is not None and not self.fingerprint:
            raise UsageError("--against holds fingerprints against a file of them; add --fingerprint")
        if self.fingerprint:
            self._check_fingerprint()
        elif self.compares_networks:
            self._check_networks()
        else:
            self.names()
            given = (self.transplant, self.input)
            if given != (None, None) or self.weights or self.keep_weights or self.tensors or self.settings:
                raise UsageError(
                    "--transplant, --input, --set, --weights and --keep-weights belong to two networks; "
                    "name them instead of subjects"
                )

    def check_settings(self) -> None:
        """Refuse settings that no subject can use.

        Raises:
            UsageError: no number or type at all, a number below 1, an unknown type or mode.

        """
        for option, numbers in (("--groups", self.groups), ("--width", self.widths), ("--channels", self.channels)):
            if not numbers and option != "--width":
                raise UsageError(f"{option} names no number; give at least one")
            for number in numbers:
                if number < 1:
                    raise UsageError(f"{option} takes whole numbers from 1 on, not {number}")
        check_device(self.device)
        if self.trials < 1:
            raise UsageError(f"--trials takes a whole number from 1 on, not {self.trials}")
        for option, names, known in (("--dtype", self.dtypes, DTYPES), ("--mode", self.modes, MODES)):
            if not names:
                raise UsageError(f"{option} names none, so that nothing would be compared; it takes {', '.join(known)}")
            check_choices(option, names, known)

    def check_used(self) -> None:
        """Refuse a setting that none of the subjects uses, or that two networks do not use.

        Raises:
            UsageError: it is not the default, and would change nothing.

        """
        subjects = [] if self.compares_networks else [SUBJECTS[name] for name in self.names()]
        used = {name for subject in subjects for name in subject.uses} if subjects else set(USED_BY_NETWORKS)
        always = {value for subject in subjects for value in subject.always}
        for name, option in OPTIONS.items():
            given = getattr(self, name)
            if name not in used and given != getattr(VerifyRequest(), name) and always.isdisjoint(given):
                whom = ", ".join(subject.name for subject in subjects) or "two networks"
                takers = ", ".join(subject.name for subject in SUBJECTS.values() if name in subject.uses)
                raise UsageError(f"{option} changes nothing for {whom}; leave it out (it belongs to {takers})")

    def _check_fingerprint(self) -> None:
        if not self.subjects:
            raise UsageError("no network is named; try resnet50, or file.py:factory")
        for subject in self.subjects:
            if isinstance(subject, str) and not is_specification(subject) and not _is_network(subject):
                raise UsageError(f"--fingerprint takes networks, and '{subject}' is none; `mlcv-bench list` shows all")
        if self.transplant is not None or self.keep_weights:
            raise UsageError(
                "--transplant and --keep-weights belong to two networks; leave them out with --fingerprint"
            )
        if self.dtypes != DEFAULT_DTYPES:
            raise UsageError("--dtype changes nothing for --fingerprint, which computes in float64; leave it out")
        if self.weights and (len(self.weights), len(self.subjects)) != (1, 1):
            raise UsageError("--weights with --fingerprint is one file for one network; name one of each")
        for path in self.weights:
            check_weights(path)
        self.input_of_networks()

    def _check_networks(self) -> None:
        if len(self.subjects) != PAIR:
            raise UsageError(
                f"two networks are compared with each other, not {len(self.subjects)}; name two, or add --fingerprint"
            )
        if len(self.weights) > PAIR:
            raise UsageError(f"--weights is given {len(self.weights)} times; give one file a network")
        if len(self.weights) == PAIR and self.transplant is not None:
            raise UsageError("--transplant would replace the second network's --weights; leave one of them out")
        if self.weights and self.keep_weights:
            raise UsageError("--weights keeps the weights already; leave --keep-weights out")
        for path in self.weights:
            check_weights(path)
        if isinstance(self.transplant, str) and not is_specification(self.transplant):
            raise UsageError(
                f"--transplant {self.transplant} is no function; write package.module:function or file.py:function"
            )
        self.input_of_networks()

    def input_of_networks(self) -> tuple[int, ...] | None:
        """Return the shape of one input of two networks: the one given, or that of the first one that has a name.

        Raises:
            UsageError: an unknown name, or an input that a network of the catalogue cannot take.

        """
        names = [subject for subject in self.subjects if isinstance(subject, str)]
        if not names:
            return self.input
        size = self.input if self.input is not None or self.tensors else Request.of(names[0]).input
        for name in names:
            # What a specification takes is known once it is opened.
            options = {} if is_specification(name) else parse_settings(name, dict(self.settings))
            Request.of(name, input=size, options=options, tensors=self.tensors)
        return size


def is_pair(subjects: tuple[Any, ...]) -> bool:
    """Tell whether two networks are asked for: where a module or a specification is named, or two are networks' names.

    A name that is a subject's is never taken for a network's.
    """
    if any(not isinstance(subject, str) or is_specification(subject) for subject in subjects):
        return True
    return len(subjects) == PAIR and all(name not in (*SUBJECTS, "all") and _is_network(name) for name in subjects)


def _is_network(name: str) -> bool:
    try:
        catalog.is_built_in(name)
    except UsageError:
        return False
    return True
