"""Vocabularies: ids as promised, names that keep their ranks, and two engines that agree on anything."""

import base64
import hashlib
import json
import shutil
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import SHARED, byte_ranks
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataprep import vocab_store
from dataprep.errors import DataError, QuernError, UsageError
from dataprep.paths import Paths
from dataprep.rank_file import CHAT_SPECIALS, END, fingerprint, format_ranks, parse_ranks
from dataprep.vocab import Vocab
from dataprep.vocab_store import GPT2_SHA256, load_vocab, obtain_vocab, publish_vocab

GPT2_FILE = SHARED / "vocab" / "gpt2.tiktoken"
needs_gpt2 = pytest.mark.skipif(not GPT2_FILE.exists(), reason="the gpt2 ranks are not in shared/vocab/gpt2.tiktoken")
HOSTILE = [
    "",
    " ",
    "\r",
    "\r\n\r \n",
    "a\rb",
    "\0",
    "x\0\0y",
    "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    " \t\u00a0\u2003\u2028\u3000\ufeff ",
    "the  the   the    ",
    "🤦🏽‍♂️👩‍👩‍👧‍👦🇨🇭",
    "e\u0301\u0327 नमस्ते ﷽ \U0010ffff \ufffd\ufffe",
    "don't I'LL we've 'S ''s '",
    "0123456789²½Ⅷ٣",
    "a" * 10_000,
    " " * 10_000 + "x",
    "\n" * 5_000,
    "🤦" * 2_000,
    "the" * 4_000,
    END,
    f"before{END}after{END}{END}",
    " ".join(CHAT_SPECIALS),
    "<|endoftext",
    "|>",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Vocab:
    paths = Paths(root=tmp_path_factory.mktemp("vocab"))
    publish_vocab(paths, "tiny-bpe", byte_ranks(), origin="made by the tests")
    return load_vocab(paths, "tiny-bpe")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Vocab:
    paths = Paths(root=tmp_path_factory.mktemp("gpt2"))
    return obtain_vocab(paths, "gpt2", vocab_file=GPT2_FILE, offline=True)


def encode(vocab: Vocab, texts: pa.LargeStringArray) -> list[list[int]]:
    """Each text's ids by the fast engine."""
    ids, offsets = vocab.encode_texts(texts)
    assert len(offsets) == len(texts) + 1
    return [ids[start:end].tolist() for start, end in pairwise(offsets)]


def encode_one(vocab: Vocab, text: str) -> list[int]:
    return encode(vocab, pa.array([text], pa.large_string()))[0]


def test_the_end_token_and_the_specials_follow_the_ranks_in_order(tiny: Vocab) -> None:
    assert (tiny.n_ranks, tiny.end_id, tiny.vocab_size, tiny.pad_id) == (260, 260, 272, 271)
    assert list(tiny.specials.items())[:3] == [(END, 260), ("<|user_start|>", 261), ("<|user_end|>", 262)]
    assert tiny.specials["<|pad|>"] == tiny.pad_id
    assert sorted(tiny.specials.values()) == list(range(260, 272))


@needs_gpt2
def test_gpt2_has_the_ids_everyone_knows(gpt2: Vocab) -> None:
    assert (gpt2.end_id, gpt2.specials["<|user_start|>"], gpt2.pad_id) == (50256, 50257, 50267)
    assert encode_one(gpt2, "Hello world") == [15496, 995]


@pytest.mark.parametrize("text", HOSTILE)
def test_both_engines_agree_on_hostile_text_and_it_decodes_to_itself(tiny: Vocab, text: str) -> None:
    ids = encode_one(tiny, text)
    assert ids == tiny.encode_ordinary(text)
    assert tiny.decode(ids) == text


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=6))
@example(texts=["", "", "the"])
def test_both_engines_agree_on_any_text(tiny: Vocab, texts: list[str]) -> None:
    assert encode(tiny, pa.array(texts, pa.large_string())) == [tiny.encode_ordinary(text) for text in texts]


@needs_gpt2
@settings(max_examples=200, deadline=None)
@given(text=st.one_of(st.text(max_size=60), st.text(alphabet="the in's 12\r\n\t🤦é\0<|>_", max_size=60)))
def test_gpt2_ids_equal_tiktokens_on_any_text(gpt2: Vocab, text: str) -> None:
    assert encode_one(gpt2, text) == gpt2.encode_ordinary(text)


@needs_gpt2
def test_gpt2_ids_equal_tiktokens_on_hostile_text(gpt2: Vocab) -> None:
    assert encode(gpt2, pa.array(HOSTILE, pa.large_string())) == [gpt2.encode_ordinary(text) for text in HOSTILE]


@pytest.mark.parametrize("special", [END, *CHAT_SPECIALS])
def test_a_special_spelled_in_text_is_ordinary_text(tiny: Vocab, special: str) -> None:
    ids = encode_one(tiny, f"a{special}b")
    assert max(ids) < tiny.n_ranks
    assert tiny.decode(ids) == f"a{special}b"


def test_a_slice_of_an_arrow_array_is_encoded_as_its_own_texts(tiny: Vocab) -> None:
    texts = ["zero", "", "the second", "in", "🤦", "", "last"]
    whole = pa.array(texts, pa.large_string())
    for start in range(len(texts) + 1):
        for length in range(len(texts) - start + 1):
            wanted = [tiny.encode_ordinary(text) for text in texts[start : start + length]]
            assert encode(tiny, whole.slice(start, length)) == wanted


def test_a_batch_of_empty_texts_has_no_ids(tiny: Vocab) -> None:
    assert encode(tiny, pa.array(["", ""], pa.large_string())) == [[], []]


def test_the_largest_vocabulary_a_bin_can_hold_is_taken_and_one_more_is_refused() -> None:
    tokens = [*(bytes([i]) for i in range(256)), *(b"%06d" % i for i in range(65_536 - 12 - 256))]
    assert len(parse_ranks(format_ranks(tokens), "x.tiktoken")) + 12 == 65_536
    with pytest.raises(UsageError, match=r"65,525 ranks \+ 12 specials"):
        parse_ranks(format_ranks([*tokens, b"more"]), "x.tiktoken")


LINES = byte_ranks().splitlines(keepends=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"<html>404</html>",
        b"".join(LINES[:255]),
        b"".join(LINES[:100] + LINES[101:]),
        b"".join(LINES) + b"AA== 260\n",
        b"".join(LINES)[:-3],
        b"".join(LINES) + b"!!!! 260\n",
        b"".join(LINES) + b"QUJD x\n",
        b"".join(LINES) + b"QUJD -1\n",
        b"".join(LINES) + b"QUJD 260 1\n",
        b"\xff\xfe" + b"".join(LINES),
    ],
)
def test_a_file_that_is_no_rank_file_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match=r"x\.tiktoken is not a rank file"):
        parse_ranks(content, "x.tiktoken")


def test_ranks_that_lack_a_byte_are_refused() -> None:
    without_nul = [*(bytes([i]) for i in range(1, 256)), b"th", b"the"]
    with pytest.raises(DataError):
        parse_ranks(format_ranks(without_nul), "x.tiktoken")


def test_ranks_are_read_back_as_they_were_formatted() -> None:
    tokens = [*(bytes([i]) for i in range(256)), b"\xff\xfe", b"\n\n", b" the"]
    assert parse_ranks(format_ranks(tokens), "x") == {token: rank for rank, token in enumerate(tokens)}


def test_the_fingerprint_covers_ranks_pattern_and_specials(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(byte_ranks(), 260)
    assert fingerprint(byte_ranks(), 260) == before
    assert fingerprint(byte_ranks()[:-1], 260) != before
    assert fingerprint(byte_ranks(), 261) != before
    monkeypatch.setattr("dataprep.rank_file.SPLIT_PATTERN", "other")
    assert fingerprint(byte_ranks(), 260) != before


def test_a_changed_rank_file_is_refused(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    publish_vocab(paths, "tiny", byte_ranks(), origin="test")
    ranks_file = paths.vocab / "tiny.tiktoken"
    ranks_file.write_bytes(byte_ranks().replace(base64.b64encode(b" the"), base64.b64encode(b" tho")))
    with pytest.raises(DataError, match=r"data/vocab/tiny\.tiktoken is not the vocabulary it was"):
        load_vocab(paths, "tiny")


@pytest.mark.parametrize("receipt", [None, b"", b"[]", b"{}", b"\xff", b"null"])
def test_ranks_without_a_good_receipt_are_refused(tmp_path: Path, receipt: bytes | None) -> None:
    paths = Paths(root=tmp_path)
    publish_vocab(paths, "tiny", byte_ranks(), origin="test")
    file = paths.vocab / "tiny.json"
    file.unlink() if receipt is None else file.write_bytes(receipt)
    with pytest.raises(DataError, match=r"receipt tiny\.json cannot be read"):
        load_vocab(paths, "tiny")


def test_a_name_taken_by_other_ranks_is_refused_and_keeps_its_own(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    publish_vocab(paths, "tiny", byte_ranks(), origin="test")
    publish_vocab(paths, "tiny", byte_ranks(), origin="test")  # the same ranks are no other vocabulary
    other = format_ranks([*(bytes([i]) for i in range(256)), b"ab"])
    with pytest.raises(UsageError, match="'tiny' is taken by another vocabulary"):
        publish_vocab(paths, "tiny", other, origin="test")
    assert (paths.vocab / "tiny.tiktoken").read_bytes() == byte_ranks()
    assert load_vocab(paths, "tiny").n_ranks == 260


def test_the_receipt_states_what_was_published(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    publish_vocab(paths, "tiny", byte_ranks(), origin="by hand")
    receipt = json.loads((paths.vocab / "tiny.json").read_text())
    assert receipt["sha256"] == hashlib.sha256(byte_ranks()).hexdigest()
    assert receipt["fingerprint"] == load_vocab(paths, "tiny").fingerprint
    assert (receipt["n_ranks"], receipt["bytes"], receipt["origin"]) == (260, len(byte_ranks()), "by hand")


def test_a_vocabulary_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no vocabulary 'none'"):
        load_vocab(Paths(root=tmp_path), "none")


def test_a_rank_file_given_by_hand_is_kept_under_its_name(tmp_path: Path) -> None:
    given_file = tmp_path / "mine.tiktoken"
    given_file.write_bytes(byte_ranks())
    paths = Paths(root=tmp_path)
    made = obtain_vocab(paths, "mine", vocab_file=given_file, offline=True)
    given_file.unlink()
    assert obtain_vocab(paths, "mine", offline=True).fingerprint == made.fingerprint


@pytest.mark.parametrize("name", ["none.tiktoken", "."])
def test_a_rank_file_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="there is no rank file at"):
        obtain_vocab(Paths(root=tmp_path), "mine", vocab_file=tmp_path / name)


def test_other_ranks_cannot_be_called_gpt2(tmp_path: Path) -> None:
    given_file = tmp_path / "mine.tiktoken"
    given_file.write_bytes(byte_ranks())
    with pytest.raises(DataError, match="is not the gpt2 vocabulary"):
        obtain_vocab(Paths(root=tmp_path), "gpt2", vocab_file=given_file)
    assert not (tmp_path / "data").exists()


def test_gpt2_that_is_not_held_is_refused_offline_and_when_it_cannot_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocab_store, "GPT2_URL", "http://127.0.0.1:9/r50k_base.tiktoken")  # nobody listens there
    for offline in (True, False):
        with pytest.raises(QuernError) as refused:
            obtain_vocab(Paths(root=tmp_path), "gpt2", offline=offline)
        assert isinstance(refused.value, DataError)
        assert "--vocab-file" in refused.value.fix


@needs_gpt2
def test_a_gpt2_file_placed_by_hand_works_without_a_receipt(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    paths.vocab.mkdir(parents=True)
    shutil.copyfile(GPT2_FILE, paths.vocab / "gpt2.tiktoken")
    assert hashlib.sha256(GPT2_FILE.read_bytes()).hexdigest() == GPT2_SHA256
    assert obtain_vocab(paths, "gpt2", offline=True).n_ranks == 50_256
