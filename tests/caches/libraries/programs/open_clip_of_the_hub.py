"""open_clip's model and tokenizer of a repository of the Hub."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

from tests.caches.libraries.programs.weights import weights

_CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


def save(directory: str) -> None:
    told = {"model_cfg": _CONFIG, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    Path(directory, "open_clip_config.json").write_text(json.dumps(told))
    save_file(weights(open_clip.CLIP(**_CONFIG), 0), Path(directory, "open_clip_model.safetensors"))


def predict() -> object:
    model, _ = open_clip.create_model_from_pretrained("hf-hub:org/toy")
    words = open_clip.get_tokenizer("hf-hub:org/toy")(["a cat"])
    with torch.no_grad():
        return [model.encode_image(torch.zeros(1, 3, 32, 32)).tolist(), model.encode_text(words).tolist()]
