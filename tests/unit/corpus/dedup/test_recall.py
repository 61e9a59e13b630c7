"""How many planted copies are found, in scripts of every kind, and how many texts that are no copies."""

import json
from functools import cache
from random import Random

import numpy as np
import pytest
import zstandard

from megatron.config.corpus_schema import DedupConfig
from megatron.corpus.dedup.closeness import HeldOutGuard
from megatron.corpus.dedup.keys import DocumentKeys
from megatron.corpus.dedup.ngrams import ngram_characters
from megatron.corpus.sample import build_sample_corpus
from megatron.languages.script import main_script

SETTINGS = DedupConfig()
COPIES = 150

# Files of the declaration: the script, and the characters of a word where no blanks are between them.
DECLARATIONS = {
    "eng": ("Latn", None),
    "swh": ("Latn", None),
    "rus": ("Cyrl", None),
    "arb": ("Arab", None),
    "hin": ("Deva", None),
    "tha": ("Thai", 5),
    "lao": ("Laoo", 6),
    "bod": ("Tibt", 6),
    "mya": ("Mymr", 8),
    "amh": ("Ethi", 3),
    "cmn_hans": ("Hani", 2),
    "jpn": ("Jpan", 2),
}
SAMPLES = {"eng_Latn": None, "rus_Cyrl": None, "khm_Khmr": 5, "kor_Kore": None, "zho_Hani": 2, "amh_Ethi": None}


def replaced(text, rate, word_characters, random):
    """Replace this share of the words by other words of the text, one at least."""
    if word_characters is None:
        words, glue = text.split(" "), " "
    else:
        words = [text[i : i + word_characters] for i in range(0, len(text), word_characters)]
        glue = ""
    changed = list(words)
    for place in random.sample(range(len(words)), max(1, round(len(words) * rate))):
        changed[place] = random.choice(words)
    return glue.join(changed)


def documents_of(parts, script, random):
    """Documents of about 230 words of English, or the like, made of parts in random order."""
    characters = 1400 * ngram_characters(SETTINGS, script) / 12
    documents = []
    for _ in range(COPIES):
        document = ""
        for part in random.sample(parts, len(parts)):
            document += part + "\n"
            if len(document) > characters:
                break
        documents.append(document)
    return documents


def recall(parts, script, word_characters):
    """The share of copies that share a key with the original, for four shares of words replaced."""
    random = Random(1)
    maker = DocumentKeys(SETTINGS, script=script)
    documents = documents_of(parts, script, random)
    keys = maker.keys(documents)
    copies = [[replaced(text, rate, word_characters, random) for text in documents] for rate in (0.01, 0.05, 0.1, 0.2)]
    return [float((maker.keys(texts) == keys).any(axis=1).mean()) for texts in copies]


def sharing(keys):
    """The number of pairs that share a key."""
    return sum(int((keys[:row] == keys[row]).any(axis=1).sum()) for row in range(len(keys)))


def check(found):
    assert found[0] >= 0.98
    assert found[1] >= 0.5
    assert found[2] <= 0.6
    assert found[3] <= 0.1
    assert found == sorted(found, reverse=True)


@cache
def declaration(path):
    return [json.loads(line)["text"] for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    build_sample_corpus(folder, languages=list(SAMPLES))
    texts = {}
    for name in SAMPLES:
        data = (
            zstandard.ZstdDecompressor().decompressobj().decompress((folder / name / "part-000.jsonl.zst").read_bytes())
        )
        texts[name] = [json.loads(line)["text"] for line in data.splitlines()]
    return texts


@pytest.mark.parametrize("name", DECLARATIONS)
def test_copies_of_declarations(name, shared):
    script, word_characters = DECLARATIONS[name]
    check(recall(declaration(shared / "data" / "udhr" / "raw" / f"{name}.jsonl"), script, word_characters))


@pytest.mark.parametrize("name", SAMPLES)
def test_copies_of_sample_texts(name, samples):
    check(recall(samples[name], name[-4:], SAMPLES[name]))


def test_different_articles_of_a_declaration_are_no_duplicates(shared):
    """They share phrases, not their text; one file repeats an article, which is found."""
    found, held_out = {}, []
    for path in sorted((shared / "data" / "udhr" / "raw").glob("*.jsonl")):
        texts = declaration(path)
        script = main_script("".join(texts))
        found[path.stem] = sharing(DocumentKeys(SETTINGS, script=script).keys(texts))
        held_out += HeldOutGuard(texts[::2], SETTINGS, script=script).shares(texts[1::2]).tolist()
    assert {name: pairs for name, pairs in found.items() if pairs} in ({"wwa": 1}, {})
    assert np.mean(np.array(held_out) >= 0.5) < 0.002
    assert np.mean(held_out) < 0.1


@pytest.mark.parametrize("name", SAMPLES)
def test_texts_of_the_same_patterns_are_no_duplicates(name, samples):
    texts, script = samples[name], name[-4:]
    assert sharing(DocumentKeys(SETTINGS, script=script).keys(texts)) == 0
    assert np.mean(HeldOutGuard(texts[::10], SETTINGS, script=script).shares(texts[1::10]) >= 0.5) == 0.0


def test_texts_that_have_half_of_their_text_in_common_are_hardly_ever_taken_for_duplicates(samples):
    """Their similarity is a third: one in 500 is expected."""
    maker, text = DocumentKeys(SETTINGS, script="Latn"), "".join(samples["eng_Latn"])
    parts = [text[start : start + 600] for start in range(0, 72_000, 600)]
    one = maker.keys([common + own for common, own in zip(parts[::3], parts[1::3], strict=True)])
    two = maker.keys([common + own for common, own in zip(parts[::3], parts[2::3], strict=True)])
    assert len(one) == 40
    assert (one == two).any(axis=1).sum() <= 1
