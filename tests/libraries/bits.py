"""When tensors or arrays are the same bit for bit, which `torch.equal` and `numpy.array_equal` do not tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy


def same_bits(ours: Any, theirs: Any) -> bool:
    """Whether two tensors or arrays agree in dtype, shape and bytes: 0.0 is not -0.0, and NaN is the same NaN."""
    return (ours.dtype, tuple(ours.shape), _bytes(ours)) == (theirs.dtype, tuple(theirs.shape), _bytes(theirs))


def same_state(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two dictionaries name the same tensors in the same order, bit for bit; an empty one is none."""
    return list(ours) == list(theirs) != [] and all(same_bits(ours[name], theirs[name]) for name in theirs)


def _bytes(values: Any) -> bytes:
    if isinstance(values, numpy.ndarray):
        return values.tobytes()
    import torch

    return values.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
