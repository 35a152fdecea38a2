"""Finding rows by a name: all that are there, and none that are not."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.errors import ContractError
from linkner_ray.runs.row_index import (
    Place,
    RowIndex,
    digest_words,
    document_digest,
)


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6))
def test_every_row_of_a_name_is_found_in_the_order_of_the_files(files):
    index = RowIndex.of([np.array(words, np.uint64) for words in files])
    places = index.find(np.arange(11, dtype=np.uint64))
    for word, found in enumerate(places):
        assert list(found) == [
            Place(file, row)
            for file, words in enumerate(files)
            for row, other in enumerate(words)
            if other == word
        ]


def test_a_row_takes_twelve_bytes():
    index = RowIndex.of([np.arange(1000, dtype=np.uint64)] * 3)
    # eight bytes of its name and four of its place; and where the files begin
    assert index.num_bytes == 3000 * (8 + 4) + 4 * 8


@given(st.lists(st.text(max_size=5)))
def test_words_are_the_first_sixteen_digits(texts):
    digests = [document_digest(text) for text in texts]
    column = pa.chunked_array([pa.array(digests, pa.string())])
    assert digest_words(column).tolist() == [int(digest[:16], 16) for digest in digests]


def test_words_of_a_slice_are_those_of_its_rows():
    digests = [document_digest(str(number)) for number in range(5)]
    column = pa.chunked_array([pa.array(digests).slice(2, 2)])
    assert digest_words(column).tolist() == [int(digest[:16], 16) for digest in digests[2:4]]


def test_digests_of_another_width_are_refused():
    with pytest.raises(ContractError, match="32 digits"):
        digest_words(pa.chunked_array([["d8bb14d833d59559"]]))
