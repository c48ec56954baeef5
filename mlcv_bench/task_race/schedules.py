"""How the learning rate moves over a run: a factor for every step."""

from __future__ import annotations

import math
from typing import Literal, get_args

Schedule = Literal["constant", "cosine", "step"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """Return what the learning rate is multiplied by at step 0, 1, ..., `steps` - 1.

    `cosine` falls from 1 towards 0 (Loshchilov and Hutter 2017, without restarts); `step` divides by 10 after half and
    after three quarters of the run (He et al. 2016, section 4.2).
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / steps))
    if schedule == "step":
        return 1.0 if 2 * step < steps else 0.1 if 4 * step < 3 * steps else 0.01
    return 1.0
