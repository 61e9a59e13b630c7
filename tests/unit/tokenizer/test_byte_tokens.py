from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tokenizers

from megatron.tokenizer.load import load_tokenizer

AMHARIC = "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው"
TIBETAN = "འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང༌།"


def test_llama_2_has_256_byte_tokens(shared: Path) -> None:
    tokenizer = load_tokenizer("SPMTokenizer", shared / "data" / "tokenizers" / "llama2" / "tokenizer.model")
    mask = tokenizer.byte_token_mask()
    assert mask.shape == (32000,) and not mask.flags.writeable
    assert np.flatnonzero(mask).tolist() == list(range(3, 259))
    assert mask[tokenizer.encode(AMHARIC)].mean() > 0.8
    assert 0.3 < mask[tokenizer.encode(TIBETAN)].mean() < 0.6  # some of its letters are pieces
    assert mask[tokenizer.encode("All human beings are born free")].mean() == 0


def test_llama_3_and_its_export_have_the_same_mask(shared: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer("TiktokenTokenizer", shared / "data" / "tokenizers" / "llama3" / "tokenizer.model")
    tokenizer.save(tmp_path, prepend_bos=False)
    mask = tokenizer.byte_token_mask()
    assert mask.shape == (128256,) and 128 <= mask.sum() < 10_000
    assert np.array_equal(mask, load_tokenizer("HFTokenizer", tmp_path).byte_token_mask())
    assert not mask[tokenizer.encode("All human beings are born free")].any()
    assert mask[tokenizer.encode(TIBETAN)].mean() > 0.5
    broken = [token for token in range(tokenizer.vocab_size) if "\ufffd" in tokenizer.decode([token])]
    # A few tokens hold U+FFFD itself.
    broken = [token for token in broken if tokenizer.encode(tokenizer.decode([token])) != [token]]
    assert np.flatnonzero(mask).tolist() == broken


def test_small_models(sp_model: Path, hf_folder: Path, ranks_file: Path, tmp_path: Path) -> None:
    sentencepiece = load_tokenizer("SPMTokenizer", sp_model)
    mask = sentencepiece.byte_token_mask()
    assert mask.sum() == 256 and np.array_equal(mask, load_tokenizer("HFTokenizer", hf_folder).byte_token_mask())
    assert mask[sentencepiece.encode("\u0f40")[1:]].tolist() == [True] * 3
    ranks = load_tokenizer("TiktokenTokenizer", ranks_file)
    assert ranks.byte_token_mask()[:256].sum() == 128
    ranks.save(tmp_path, prepend_bos=False)
    assert np.array_equal(ranks.byte_token_mask(), load_tokenizer("HFTokenizer", tmp_path).byte_token_mask())


def test_byte_pieces_without_byte_fallback_are_only_text(tmp_path: Path) -> None:
    model = tokenizers.models.BPE({"<0x0A>": 0, "a": 1, "<e>": 2}, [], byte_fallback=False)
    tokenizers.Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    assert not load_tokenizer("HFTokenizer", tmp_path, eod_token="<e>").byte_token_mask().any()


@pytest.mark.parametrize("text", ["<0x0A>", "<0xE0>"])
def test_the_spelling_of_a_byte_is_text(sp_model: Path, text: str) -> None:
    tokenizer = load_tokenizer("SPMTokenizer", sp_model)
    assert tokenizer.encode(text) != [tokenizer.encode("\n")[-1]]
    assert tokenizer.decode(tokenizer.encode(text)) == text
