"""timm's model of a repository of the Hub."""

from __future__ import annotations

import timm
import torch
from timm.models import save_for_hf

from tests.caches.libraries.programs.weights import weights


def save(directory: str) -> None:
    network = timm.create_model("test_vit", num_classes=3)
    network.load_state_dict(weights(network, 0))
    save_for_hf(network, directory, model_config={"num_classes": 3}, safe_serialization=True)


def predict() -> object:
    model = timm.create_model("hf-hub:org/toy", pretrained=True).eval()
    with torch.no_grad():
        return model(torch.ones(1, *model.pretrained_cfg["input_size"])).tolist()
