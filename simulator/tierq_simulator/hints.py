"""What a fault adds to a refusal about coming again, where that is not its provider's own way to say it."""

from __future__ import annotations

import math
from email.utils import formatdate

from tierq_simulator.messages import Headers
from tierq_simulator.settings import Fault
from tierq_simulator.wire.base import seconds_text


def hints(fault: Fault, wait_s: float | None, now: float) -> Headers:
    """The headers that say whether and when to come again. ``now``: seconds since 1970, for the spelling as a date."""
    whether = () if fault.should_retry is None else (("x-should-retry", str(fault.should_retry).lower()),)
    return (*whether, *(_spelled(fault.retry_as, wait_s, now) if fault.retry_as and wait_s is not None else ()))


def _spelled(spelling: str, wait_s: float, now: float) -> Headers:
    if spelling == "ms":
        return (("retry-after-ms", str(math.ceil(wait_s * 1000))),)
    if spelling == "seconds":
        return (("retry-after", seconds_text(wait_s)),)
    # A date is worth as much as the clock it is read against, so it comes with the sender's own.
    return ("date", formatdate(now, usegmt=True)), ("retry-after", formatdate(now + math.ceil(wait_s), usegmt=True))
