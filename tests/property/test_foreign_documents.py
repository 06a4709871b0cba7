"""Streams of other tools cut into documents: against a naive cutter, whatever the stream, its index and the blocks."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataprep.foreign_documents import Recutter
from dataprep.foreign_formats import pack_megatron_index, parse_megatron_index

END = 9
STREAMS = st.lists(st.sampled_from([1, 2, END]), min_size=1, max_size=30)  # an empty file is refused


def recut(
    stream: list[int], index: list[int] | None, cuts: list[int], loss: list[int] | None = None
) -> tuple[list[int], list[int], list[int], Recutter]:
    """All blocks of tokens, ends and loss, and the recutter."""
    recutter = Recutter(END, index=None if index is None else np.array(index, dtype=np.int64))
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    tokens = np.array(stream, dtype="<u2")
    mask = None if loss is None else np.array(loss, dtype="u1")
    done = []
    for a, b in itertools.pairwise(places):
        done.append(recutter.cut(tokens[a:b], None if mask is None else mask[a:b]))
    done.append(recutter.close(masked=mask is not None))
    ends = [end for some in done for end in some.ends.tolist()]
    kept = [value for some in done if some.loss is not None for value in some.loss.tolist()]
    return [token for some in done for token in some.tokens.tolist()], ends, kept, recutter


def naive(stream: list[int], index: list[int] | None, loss: list[int]) -> list[list[tuple[int, int]]]:
    """Documents as (token, loss), one token at a time."""
    documents, open_ = [], []
    for place, (token, learned) in enumerate(zip(stream, loss, strict=True)):
        n_here = 0 if index is None else index.count(place)
        if n_here and (open_ or place == 0 or stream[place - 1] != END):
            documents.append(open_)
            open_ = []
            n_here -= 1
        elif n_here:  # the end token has closed this one already
            n_here -= 1
        documents += [[]] * n_here
        open_.append((token, learned))
        if token == END:
            documents.append(open_)
            open_ = []
    if open_:
        documents.append(open_)
    documents += [[]] * ((index or []).count(len(stream)) - 1)
    cut = [[(token, learned) for token, learned in document] for document in documents]
    return [[] if all(t == END for t, _ in d) else d if d[-1][0] == END else [*d, (END, 0)] for d in cut]


@given(STREAMS, st.data())
def test_every_document_with_text_ends_once_whatever_the_blocks_and_the_index(
    stream: list[int], data: st.DataObject
) -> None:
    place = st.integers(0, len(stream))
    index = data.draw(st.none() | st.lists(place, max_size=6).map(sorted))
    loss = data.draw(st.lists(st.integers(0, 1), min_size=len(stream), max_size=len(stream)))
    wanted = naive(stream, index, loss)
    tokens, ends, kept, recutter = recut(stream, index, data.draw(st.lists(place, max_size=4)), loss)
    assert tokens == [token for document in wanted for token, _ in document]
    assert kept == [learned for document in wanted for _, learned in document]
    assert ends == np.cumsum([len(document) for document in wanted], dtype=int).tolist()
    assert [token for token in tokens if token != END] == [token for token in stream if token != END]
    assert (recutter.documents, recutter.end_tokens) == (len(wanted), sum(map(bool, wanted)))
    assert recutter.documents == recutter.end_tokens + recutter.empty_documents
    assert recutter.tokens == len(tokens)
    assert recutter.loss_tokens == sum(kept)
    learned = [sum(value for _, value in document) for document in wanted if document]
    assert recutter.unsupervised_documents == learned.count(0)


def test_an_end_token_without_text_is_an_empty_document_and_the_rest_of_the_stream_is_closed() -> None:
    tokens, ends, _, recutter = recut([1, 2, END, END, 1], None, [])
    assert tokens == [1, 2, END, 1, END]
    assert ends == [3, 3, 5]
    assert (recutter.lone_ends, recutter.added_ends, recutter.empty_documents) == (1, 1, 1)


def test_repeated_ends_of_an_index_are_empty_documents_and_documents_without_an_end_token_get_one() -> None:
    tokens, ends, _, recutter = recut([1, 2, 1, END], [0, 2, 2, 4], [1, 3])
    assert tokens == [1, 2, END, 1, END]
    assert ends == [0, 3, 3, 5]
    assert (recutter.lone_ends, recutter.added_ends, recutter.empty_documents) == (0, 1, 2)


@given(st.lists(st.integers(1, 2000), max_size=20))
def test_an_index_that_is_packed_is_parsed_again_and_has_42_and_20_bytes_a_document(lengths: list[int]) -> None:
    ends = np.cumsum(lengths, dtype=np.int64)
    packed = pack_megatron_index(ends)
    assert len(packed) == 42 + 20 * len(lengths)
    assert parse_megatron_index("x.idx", packed, 2 * sum(lengths)).tolist() == ends.tolist()
