"""A figure beside what was promised."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """A figure, what was to be reached, and whether it was."""

    what: str
    value: float
    target: str
    met: bool

    def __str__(self) -> str:
        return f"{'met   ' if self.met else 'MISSED'} {self.value:8.2f}  ({self.target})  {self.what}"
