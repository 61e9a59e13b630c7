import gzip
import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from megatron.corpus.document import CorpusError
from megatron.corpus.reading.compressed import CutShortError, chunks, zstd_chunks

COMPRESSORS = {".txt": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
DATA = random.Random(0).randbytes(3000)


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_progress_adds_up_to_the_size_on_disk(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(COMPRESSORS[suffix](DATA) * 2)
    read = []
    assert b"".join(chunks(path, read.append)) == DATA * 2
    assert sum(read) == path.stat().st_size


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_what_could_be_read_of_a_file_that_is_cut_short(tmp_path, suffix):
    whole = COMPRESSORS[suffix](DATA)
    path = tmp_path / f"a{suffix}"
    got = b""
    path.write_bytes(whole[:-20])
    with pytest.raises(CutShortError, match="cut short"):
        for chunk in chunks(path):
            got += chunk
    assert len(got) > 2000
    assert DATA.startswith(got)


def test_a_bomb_comes_in_small_pieces(tmp_path):
    path = tmp_path / "a.zst"
    path.write_bytes(zstandard.compress(bytes(50 << 20)))
    assert path.stat().st_size < 4096
    sizes = [len(chunk) for chunk in zstd_chunks(path)]
    assert sum(sizes) == 50 << 20
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@given(data=st.binary(max_size=200))
def test_any_bytes_are_data_or_one_kind_of_error(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    path.write_bytes(data)
    try:
        assert all(isinstance(chunk, bytes) for chunk in chunks(path))
    except CorpusError as error:
        assert str(path) in str(error)


@given(flip=st.integers(0, 8 * 120 - 1))
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_flipped_bit_is_data_or_one_kind_of_error(tmp_path_factory, suffix, flip):
    whole = bytearray(COMPRESSORS[suffix](DATA[:100]))
    whole[flip // 8 % len(whole)] ^= 1 << flip % 8
    path = tmp_path_factory.mktemp("flip") / f"a{suffix}"
    path.write_bytes(whole)
    try:
        list(chunks(path))
    except CorpusError as error:
        assert str(path) in str(error)
