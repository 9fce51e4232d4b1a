"""A Stable Diffusion pipeline of diffusers, of a repository of the Hub."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.caches.libraries.programs.weights import weights

_SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def save(directory: str) -> None:
    tokens = ["<|startoftext|>", "<|endoftext|>", "a</w>", "c", "a", "t</w>", "at</w>", "cat</w>"]
    tokenizer = CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[("a", "t</w>"), ("c", "at</w>")],
        model_max_length=8,
    )
    config = CLIPTextConfig(vocab_size=8, max_position_embeddings=8, bos_token_id=0, eos_token_id=1, **_SIZES)
    text = CLIPTextModel(config)
    blocks: dict[str, Any] = {"block_out_channels": (32,), "layers_per_block": 1}
    vae = AutoencoderKL(latent_channels=4, **blocks)
    unet = UNet2DConditionModel(
        sample_size=8,
        cross_attention_dim=16,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        **blocks,
    )
    for network in (text, vae, unet):
        network.load_state_dict(weights(network, 0))
    unchecked: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}
    StableDiffusionPipeline(vae, text, tokenizer, unet, DDIMScheduler(), **unchecked).save_pretrained(directory)


def predict() -> object:
    pipeline = DiffusionPipeline.from_pretrained("org/toy")
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    made = pipeline("a cat", num_inference_steps=2, generator=generator, height=8, width=8, output_type="np")
    return made.images.tolist()
