"""What a run may ask the LLM: read from config, and divided so that no unit needs to know another.

A budget counts candidates sent to be asked about. Identical questions of a unit are asked once and
an answer cache answers what it knows, so the LLM gets at most as many questions. Repeated tries of
a failed call, and a unit that is asked again because its worker was lost, do not count.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(%|calls?|s|seconds?)")
_FORMS = "a share such as '5%' or 0.05, a number such as '20000 calls', or a time such as '3600 s'"


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount of asking."""

    amount: Fraction
    unit: Literal["share", "calls", "seconds"]
    """share: of the candidates of each unit; calls: of the whole run; seconds: of engine time,
    over all engines."""


def parse_budget(given: str | float) -> Budget:
    """Read a budget as config gives it.

    A plain number below 1 is a share, a whole one from 1 on a number of calls.

    Raises:
        ValueError: If it is none of the known forms, or a share above 100 %.
    """
    try:
        number = Fraction(str(given))
    except ValueError:
        return _parse_with_unit(str(given))
    if 0 <= number < 1:
        return Budget(number, "share")
    if number >= 1 and number.denominator == 1:
        return Budget(number, "calls")
    raise ValueError(f"'{given}' is no budget; give {_FORMS}")


def _parse_with_unit(given: str) -> Budget:
    found = _AMOUNT.fullmatch(given.strip().casefold())
    if found is None:
        raise ValueError(f"'{given}' is no budget; give {_FORMS}")
    amount, unit = Fraction(found[1]), found[2]
    if unit == "%":
        if amount > 100:
            raise ValueError(f"'{given}' is more than all candidates; give at most '100%'")
        return Budget(amount / 100, "share")
    if unit.startswith("call"):
        if amount.denominator != 1:
            raise ValueError(f"'{given}' is no whole number of calls; round it")
        return Budget(amount, "calls")
    return Budget(amount, "seconds")


def share_of(share: Fraction, num_candidates: int) -> int:
    """Most candidates of a unit that may be asked about; rounded down, so sums never exceed."""
    return int(share * num_candidates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A number of calls spread evenly over the bytes of all shards, laid end to end.

    What a range gets depends on its place alone, and the ranges of all units get exactly `calls`
    together, however the shards are cut.
    """

    calls: int
    total_bytes: int
    """Size of all shards."""

    bytes_before: int = 0
    """Size of the shards before the one in question."""

    def between(self, first: int, end: int) -> int:
        """Calls for the bytes of a shard from `first` up to `end`."""
        return self._up_to(end) - self._up_to(first)

    def _up_to(self, position: int) -> int:
        """Calls for everything before a byte of the shard."""
        return self.calls * (self.bytes_before + position) // max(self.total_bytes, 1)
