"""Watch: ends a transfer for which memory was set aside, and then taken by others, before the kernel kills somebody."""

from __future__ import annotations

from diskless.errors import BudgetExceeded
from diskless.loader.transfer import moving

# Kept free while others write as well, and looked at after so many bytes where it is tight.
_SPARE_BYTES, _TIGHT_BYTES = 12 << 20, 2 << 20


class Watch:
    """The control groups of this process, looked at again and again by its transfers."""

    def __init__(self) -> None:
        from diskless.ram.budget import ControlGroups  # late: a Loader that writes little needs none of it

        self._groups = ControlGroups()

    def look(self) -> int:
        """Return after how many bytes to look again; raises BudgetExceeded where the rest finds no room any more."""
        from diskless.ram.budget import format_size

        tightest = min(self._groups.limits(), key=lambda limit: limit.free_bytes, default=None)
        if tightest is None:
            return 1 << 60
        unwritten = sum(transfer.unwritten_bytes for transfer in moving())
        slack = tightest.free_bytes - unwritten - _SPARE_BYTES
        if slack < 0 and unwritten > 0:
            raise BudgetExceeded(
                f"{format_size(unwritten)} are still to come and {format_size(max(0, tightest.free_bytes))} are free: "
                f"other memory was taken since the load began. The limit is {tightest.name} "
                f"({format_size(tightest.total_bytes)}). Give the process more memory, load less at once, or when "
                "others have ended"
            )
        return max(_TIGHT_BYTES, slack // 8)
