"""Models of libraries of Hugging Face in diskless.cache(): they say what they say from a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from diskless import native_api as native
from tests.caches import models
from tests.caches.client import Client
from tests.caches.hub_server import HubServer
from tests.caches.ram import Ram, on_disk
from tests.caches.repository import Repository
from tests.sandbox import needs_sandbox

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="needs the Tree"),
    pytest.mark.timeout(120),
]
LOADS = """
from transformers import AutoModel, AutoTokenizer
tokens = AutoTokenizer.from_pretrained("org/bert")("hello world", return_tensors="pt")
model = AutoModel.from_pretrained("org/bert").eval()
print(model(**tokens).last_hidden_state.sum().item())
from sentence_transformers import SentenceTransformer
print(SentenceTransformer("org/bert").encode("hello world").sum())
from tokenizers import Tokenizer
print(Tokenizer.from_pretrained("org/bert").encode("hello world").ids)
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """What libraries say of org/bert on a disk, and the cache that they leave there."""
    home = tmp_path_factory.mktemp("disk")
    with HubServer() as hub:
        hub.repositories["org/bert"] = Repository.of(models.sentence_bert())
        client = Client(hub, home)
        return on_disk(client, LOADS), client.cache


@needs_sandbox
def test_models_are_those_of_the_disk_though_nothing_can_be_written_and_the_hub_is_away(
    ram: Ram, hub: HubServer, loaded: tuple[list[str], Path]
):
    expected, cache = loaded
    ram.sync(cache)
    hub.stop()
    assert ram.run_in_sandbox(LOADS + "print(PAUSES)\n") == [*expected, "[]"]


def test_plain_files_are_a_repository(ram: Ram, bert: Repository, away: None, loaded: tuple[list[str], Path]):
    for path, data in models.sentence_bert().items():
        ram.bucket.put(f"hub/org/bert/{path}", data)
    both = f"{LOADS}cache.close()\nwith diskless.cache({ram.mirror!r}, local_files_only=True):\n    exec({LOADS!r})\n"
    assert ram.run(both) == loaded[0] * 2


def test_imported_before_the_cache_is_opened(ram: Ram, hub: HubServer, loaded: tuple[list[str], Path]):
    expected, cache = loaded
    ram.sync(cache)
    hub.stop()
    early = f"""
import huggingface_hub, transformers, sentence_transformers, datasets, diskless
from huggingface_hub import constants, get_session
first, cache_dir = get_session(), constants.HF_HUB_CACHE
with diskless.cache({ram.mirror!r}):
    exec({LOADS!r})
assert constants.HF_HUB_CACHE == cache_dir and get_session() is not first
"""
    assert ram.client.run(early, **ram.env) == expected


def test_sentence_transformers_has_a_cache_of_its_own(client: Client, ram: Ram, hub: HubServer, tmp_path: Path):
    for name in ("org/bert", "org/new"):
        hub.repositories[name] = Repository.of(models.sentence_bert())
    for path, data in models.sentence_bert().items():
        ram.bucket.put(f"hub/org/bert/{path}", data)
    ram.client.env["SENTENCE_TRANSFORMERS_HOME"] = str(tmp_path / "sentences")
    program = """
from sentence_transformers import SentenceTransformer
for name in ("org/bert", "org/new"):
    print(SentenceTransformer(name).encode("hello world").sum())
print(sorted(each for each in os.listdir(os.environ["SENTENCE_TRANSFORMERS_HOME"]) if "--" in each))
"""
    first, second, names = ram.run(program, "write_back=True")
    assert first == second and names == "['models--org--bert', 'models--org--new']"
    assert not (tmp_path / "sentences").exists()
    assert not any("/org/bert/" in request.path for request in hub.requests)
    hub.stop()
    again = """
from huggingface_hub import hf_hub_download
print(relative(hf_hub_download("org/new", "config.json", cache_dir=os.environ["SENTENCE_TRANSFORMERS_HOME"])))
"""
    assert "sentences/models--org--new/snapshots/" in ram.run(again)[0]


def test_a_model_goes_on_when_the_cache_is_closed(ram: Ram, hub: HubServer, loaded: tuple[list[str], Path]):
    expected, cache = loaded[0][0], loaded[1]
    ram.sync(cache)
    hub.stop()
    program = f"""
import diskless
from transformers import AutoModel, AutoTokenizer
with diskless.cache({ram.mirror!r}):
    model = AutoModel.from_pretrained("org/bert").eval()
    tokens = AutoTokenizer.from_pretrained("org/bert")("hello world", return_tensors="pt")
print(model(**tokens).last_hidden_state.sum().item())
"""
    assert ram.client.run(program, **ram.env) == [expected]


@needs_sandbox
def test_models_of_many_kinds_a_pipeline_and_a_dataset(client: Client, ram: Ram, hub: HubServer):
    for name in ("clip", "whisper", "llama", "bert"):
        hub.repositories[f"org/{name}"] = Repository.of(getattr(models, name)())
    hub.repositories["datasets/org/table"] = Repository.of({"train.csv": b"a,b\n1,2\n3,4\n", "README.md": b"# rows\n"})
    program = """
from transformers import CLIPModel, LlamaForCausalLM, WhisperForConditionalGeneration, pipeline
def total(model):
    return sum(float(each.double().sum()) for each in model.parameters())
print(total(CLIPModel.from_pretrained("org/clip")))
print(total(WhisperForConditionalGeneration.from_pretrained("org/whisper")))
print(total(LlamaForCausalLM.from_pretrained("org/llama")))
print(sum(pipeline("feature-extraction", model="org/bert")("hello world")[0][0]))
from datasets import load_dataset
print(load_dataset("org/table", split="train").to_list())
"""
    expected = on_disk(client, program)
    ram.sync(client.cache)
    hub.stop()
    assert ram.run_in_sandbox(program) == expected
