from __future__ import annotations

from pathlib import Path

import pytest

from megatron.config.schema import NewTokensConfig
from megatron.data.manifest import TokenizerInfo
from megatron.data.new_tokens import first_new_token
from megatron.tokenizer.extend.extension import Extension

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
    with pytest.raises(ValueError, match=r"vocab_extension = .*: cannot be read"):
        first_new_token(NewTokensConfig(vocab_extension=str(tmp_path / "none")), TOKENIZER)
