"""What is asked of `flops` and `params`: networks, batches, and which way to count. Checked without torch."""

from __future__ import annotations

from dataclasses import dataclass

from mlcv_bench.architectures.request import Networks
from mlcv_bench.errors import UsageError


@dataclass(frozen=True)
class CostRequest:
    """Networks to count, each at every batch; `sort` and `top` order and cut the plain count.

    `ways` holds one of audit, reconcile and training, or nothing; `optimizer` and `memory` (16GB) belong to training.
    """

    networks: Networks
    batches: tuple[int, ...] = (1,)
    ways: tuple[str, ...] = ()
    optimizer: str | None = None
    memory: str | None = None
    sort: str | None = None
    top: int | None = None

    def check(self) -> None:
        """Refuse options that say nothing together, and what is wrong with a single one.

        Raises:
            UsageError: one sentence.

        """
        if len(self.ways) > 1:
            raise UsageError(f"--{self.ways[0]} and --{self.ways[1]} are different tables; ask for one at a time")
        if "training" not in self.ways and (self.optimizer or self.memory):
            raise UsageError(f"{'--optimizer' if self.optimizer else '--memory'} belongs to --training; add --training")
        if self.ways == ("reconcile",) and self.batches != (1,):
            raise UsageError("--reconcile speaks of one image; leave --batch out")
        if self.ways and (self.sort or self.top):
            option = "sort" if self.sort else "top"
            raise UsageError(f"--{option} orders the plain count; leave it out with --{self.ways[0]}")
        self.networks.check()
        if "training" in self.ways:
            from mlcv_bench.counting.budget import parse_memory, slots_of  # noqa: PLC0415 - reads the optimizers

            slots_of(self.optimizer or "sgd")
            if self.memory is not None:
                parse_memory(self.memory)
