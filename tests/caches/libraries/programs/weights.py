"""Random weights in place of trained ones: constructors leave some of theirs at zero or as the memory was."""

from __future__ import annotations

import torch


def weights(network: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Return a state of `network`, which may be on the device "meta", with which no layer's output vanishes."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            state[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
            continue
        values = torch.randn(tensor.shape, generator=generator)
        if tensor.dim() > 1:
            state[name] = values * ((2 if tensor.dim() == 4 else 1) / (tensor.numel() / len(tensor))) ** 0.5
        else:  # biases are small, and what a layer multiplies with is near one
            state[name] = values / 10 + (0 if name.endswith("bias") else 1)
    return state
