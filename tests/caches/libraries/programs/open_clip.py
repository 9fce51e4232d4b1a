"""open_clip with weights that have a URL, whose SHA-256 it compares."""

from __future__ import annotations

import open_clip
import torch
from open_clip import factory, pretrained

from tests.caches.libraries.programs.files import digest, made
from tests.caches.libraries.programs.weights import weights

factory._MODEL_CONFIGS["Toy"] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


def make(seed: int) -> str:
    path = made("~/.cache/clip/toy.pt")
    torch.save(weights(open_clip.create_model("Toy", load_weights=False), seed), path)
    return digest(path)


def predict(sha256: str) -> object:
    url = f"https://openaipublic.invalid/clip/{sha256}/toy.pt"  # it compares what comes from there
    pretrained._PRETRAINED["Toy"] = {"there": pretrained._pcfg(url=url)}
    model, _, _ = open_clip.create_model_and_transforms("Toy", pretrained="there")
    model.eval()
    with torch.no_grad():
        words = model.encode_text(open_clip.get_tokenizer("Toy")(["a cat"]))
        return [model.encode_image(torch.zeros(1, 3, 32, 32)).tolist(), words.tolist()]
