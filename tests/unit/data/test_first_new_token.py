from __future__ import annotations

from pathlib import Path

import pytest

from megatron.config.schema import ModelConfig, NewTokensConfig, TokenizerConfig
from megatron.data.manifest import TokenizerInfo
from megatron.data.new_tokens import extension_folders, first_new_token, new_tokens_line
from megatron.tokenizer.extend.extension import Extension
from megatron.tokenizer.load import load_tokenizer

TOKENIZER = TokenizerInfo("HFTokenizer", "new", vocab_size=110, eod_id=2)


def extension(folder: Path, *, made: str = "new", old_size: int = 100, added: int = 10) -> str:
    Extension("old", made.split(), old_size, [(1, 2)] * added).save(folder)
    return str(folder)


def test_the_extension_or_the_id_itself(tmp_path: Path) -> None:
    folder = extension(tmp_path)
    for settings in (
        {"vocab_extension": folder},
        {"vocab_extension": f"{folder}/extension.json"},
        {"new_tokens_from": 100},
        {"vocab_extension": folder, "new_tokens_from": 100},
    ):
        assert first_new_token(NewTokensConfig(**settings), TOKENIZER) == 100
    assert first_new_token(NewTokensConfig(), TOKENIZER) is None
    assert first_new_token(NewTokensConfig(new_tokens_from=109), TOKENIZER) == 109


def test_whichever_of_its_files_the_run_has(tmp_path: Path) -> None:
    section = NewTokensConfig(vocab_extension=extension(tmp_path, made="model new"))
    assert first_new_token(section, TOKENIZER) == 100


def test_an_id_outside_the_vocabulary() -> None:
    with pytest.raises(ValueError, match=r"new_tokens_from = 110 is no id of the tokenizer, which has 110 entries"):
        first_new_token(NewTokensConfig(new_tokens_from=110), TOKENIZER)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"made": "third fourth"}, "made a tokenizer with fingerprint third or fourth, and that of the run has new"),
        ({"added": 9}, "has 109 entries, and the tokenizer 110"),
        ({"old_size": 99, "added": 11}, "new_tokens_from = 100 contradicts vocab_extension"),
    ],
)
def test_an_extension_that_does_not_fit(changes: dict, said: str, tmp_path: Path) -> None:
    section = NewTokensConfig(vocab_extension=extension(tmp_path, **changes), new_tokens_from=100)
    with pytest.raises(ValueError, match=said):
        first_new_token(section, TOKENIZER)


def test_all_problems_at_once(tmp_path: Path) -> None:
    section = NewTokensConfig(vocab_extension=extension(tmp_path, made="third"), new_tokens_from=200)
    with pytest.raises(ValueError, match="is no id") as raised:
        first_new_token(section, TOKENIZER)
    assert len(str(raised.value).splitlines()) == 3


def test_an_extension_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"vocab_extension = .*: cannot be read") as raised:
        first_new_token(NewTokensConfig(vocab_extension=str(tmp_path / "none")), TOKENIZER)
    assert "relative" not in str(raised.value)


def test_a_relative_path_is_said_to_begin_where_the_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="cannot be read") as raised:
        first_new_token(NewTokensConfig(vocab_extension="extended"), TOKENIZER)
    assert f"A relative path begins at {tmp_path}, where this runs" in str(raised.value)
    (tmp_path / "extended").mkdir()
    extension(tmp_path / "extended")
    assert first_new_token(NewTokensConfig(vocab_extension="extended"), TOKENIZER) == 100


def test_an_extension_beside_tokenizer_or_model_must_agree(tmp_path: Path) -> None:
    tokenizer = TokenizerConfig(tokenizer_type="HFTokenizer", vocab_file=str(tmp_path / "tokenizer.json"))
    model = ModelConfig(hf_model=str(tmp_path / "model"))
    assert extension_folders(tokenizer, None) == [tmp_path]
    beside = extension_folders(tokenizer, model)
    assert first_new_token(NewTokensConfig(new_tokens_from=10), TOKENIZER, beside=beside) == 10  # none is there
    (tmp_path / "model").mkdir()
    extension(tmp_path / "model")
    assert first_new_token(NewTokensConfig(new_tokens_from=100), TOKENIZER, beside=beside) == 100
    with pytest.raises(ValueError, match=r"new_tokens_from = 10, but the first new id is 100, says .*model/extension"):
        first_new_token(NewTokensConfig(new_tokens_from=10), TOKENIZER, beside=beside)
    (tmp_path / "extension.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON") as raised:
        first_new_token(NewTokensConfig(new_tokens_from=10), TOKENIZER, beside=beside)
    assert len(str(raised.value).splitlines()) == 2


def test_how_many_are_new(tmp_path: Path, sp_model: Path) -> None:
    size = load_tokenizer("SPMTokenizer", sp_model).vocab_size
    tokenizer = TokenizerConfig(tokenizer_type="SPMTokenizer", vocab_file=str(sp_model))
    named = NewTokensConfig(vocab_extension=extension(tmp_path, old_size=32000, added=1000))
    assert new_tokens_line(named, tokenizer) == "new tokens: 1,000, the ids 32,000 to 32,999"
    line = new_tokens_line(NewTokensConfig(new_tokens_from=size - 10), tokenizer)
    assert line == f"new tokens: 10, the ids {size - 10:,} to {size - 1:,}"
    for section in (NewTokensConfig(), NewTokensConfig(new_tokens_from=size), NewTokensConfig(vocab_extension="none")):
        assert new_tokens_line(section, tokenizer) is None
    absent = TokenizerConfig(tokenizer_type="SPMTokenizer", vocab_file=str(tmp_path / "none"))
    assert new_tokens_line(NewTokensConfig(new_tokens_from=5), absent) is None
