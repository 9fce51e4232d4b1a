"""What is built on the client of the hub loads from the one on loopback what it loads from a directory."""

from __future__ import annotations

import pytest

from tests.caches import models
from tests.caches.repository import Repository

pytest.importorskip("torch")
pytest.importorskip("transformers")


# To import transformers takes seconds, which is why one program does all.
@pytest.mark.slow
def test_transformers_loads_a_model_and_its_tokenizer(hub, client):
    hub.repositories["org/bert"] = Repository.of(models.bert())
    program = """
        from transformers import AutoModel, AutoTokenizer
        for keywords in ({}, {"local_files_only": True}):
            tokenizer = AutoTokenizer.from_pretrained("org/bert", **keywords)
            print(tokenizer.tokenize("the ram is ab"))
            print(AutoModel.from_pretrained("org/bert", **keywords).config.hidden_size)
    """
    assert client.run(program) == [str(["the", "ram", "is", "a", "##b"]), "16"] * 2
    commit = hub.repositories["org/bert"].branches["main"]
    asked = hub.asked()
    assert asked[0] == "GET /api/models/org/bert 200"
    weights = [line for line in asked if "safetensors" in line or "/lfs/" in line]
    assert weights[0] == f"HEAD /org/bert/resolve/{commit}/model.safetensors 302"
    # That and the bytes, once.
    assert len(weights) == 2 and weights == asked[-2:]


@pytest.mark.slow
def test_sentence_transformers_loads_a_trained_model(hub, client):
    pytest.importorskip("sentence_transformers")
    hub.repositories["org/minilm"] = Repository.of(models.minilm())
    program = """
        from sentence_transformers import SentenceTransformer
        cats, kittens, taxes = SentenceTransformer("org/minilm").encode(["a cat", "a kitten", "the tax office"])
        print(cats.shape, bool(cats @ kittens > 0.5 > cats @ taxes))
    """
    assert client.run(program) == ["(384,) True"]
    assert hub.asked()[0] == "GET /api/models/org/minilm 200"
