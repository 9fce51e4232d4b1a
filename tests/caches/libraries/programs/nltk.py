"""NLTK: a corpus in a zip file, and the sentences of Punkt, whose files lie in a directory. It compares no hash."""

from __future__ import annotations

import zipfile

import nltk
from nltk.corpus.reader import WordListCorpusReader
from nltk.corpus.util import LazyCorpusLoader

from tests.caches.libraries.programs.files import made

_PUNKT = {"abbrev_types.txt": "dr\n", "collocations.tab": "", "sent_starters.txt": "the\n", "ortho_context.tab": ""}


def make(seed: int) -> str:
    with zipfile.ZipFile(made("~/nltk_data/corpora/toy.zip"), "w") as file:
        file.writestr("toy/", "")
        file.writestr("toy/en", f"apple\npear\n{seed}\n")
    for name, text in _PUNKT.items():
        made(f"~/nltk_data/tokenizers/punkt_tab/english/{name}").write_text(text)
    return ""


def predict(_: str) -> object:
    words = LazyCorpusLoader("toy", WordListCorpusReader, ["en"]).words()
    return [list(words), nltk.sent_tokenize("Dr. Who came. The end is here.")]
