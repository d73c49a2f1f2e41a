"""Time by the clock and by the CPU: on a machine that others use too, the second says more."""

from __future__ import annotations

import os
import time


class Clock:
    """Seconds by the clock, and CPU seconds of this process and those of its own that ended, since it was made."""

    def __init__(self) -> None:
        self.began, self.spent = time.perf_counter(), self._cpu()

    def read(self) -> tuple[float, float]:
        """Both, up to now."""
        return time.perf_counter() - self.began, self._cpu() - self.spent

    def _cpu(self) -> float:
        spent = os.times()
        return spent.user + spent.system + spent.children_user + spent.children_system
