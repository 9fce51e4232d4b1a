"""Whisper of a name that it knows, whose SHA-256 it compares."""

from __future__ import annotations

import dataclasses

import numpy
import torch
import whisper
from whisper.model import ModelDimensions, Whisper

from tests.caches.libraries.programs.files import digest, made
from tests.caches.libraries.programs.weights import weights

# With the vocabulary of the multilingual tokenizer, and as many layers and heads as are known to be aligned for tiny.
_DIMENSIONS = ModelDimensions(80, 1500, 48, 6, 1, 51865, 448, 48, 6, 4)


def make(seed: int) -> str:
    path = made("~/.cache/whisper/tiny.pt")
    state = weights(Whisper(_DIMENSIONS), seed)
    torch.save({"dims": dataclasses.asdict(_DIMENSIONS), "model_state_dict": state}, path)
    return digest(path)


def predict(sha256: str) -> object:
    whisper._MODELS["tiny"] = f"https://models.invalid/whisper/{sha256}/tiny.pt"
    model = whisper.load_model("tiny", device="cpu")
    sound = numpy.sin(numpy.arange(16000, dtype=numpy.float32) / 7)
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(sound))
    told = whisper.decode(model, mel, whisper.DecodingOptions(fp16=False, language="en", sample_len=5))
    return [told.tokens, told.avg_logprob]
