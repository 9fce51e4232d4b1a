"""Keras' get_file, with a hash, and the weights that it finds."""

from __future__ import annotations

from typing import Any

import keras
import numpy

from tests.caches.libraries.programs.files import digest, made


def _net() -> Any:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


def make(seed: int) -> str:
    path = made("~/.keras/models/toy.weights.h5")
    keras.utils.set_random_seed(seed)
    _net().save_weights(path)
    return digest(path)


def predict(sha256: str) -> object:
    url = "https://models.invalid/toy.weights.h5"
    net = _net()
    net.load_weights(keras.utils.get_file("toy.weights.h5", url, cache_subdir="models", file_hash=sha256))
    return net.predict(numpy.ones((1, 4)), verbose=0).tolist()
