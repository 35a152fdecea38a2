import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkner_ray.corpora.conll import parse_conll
from linkner_ray.corpora.tags import PREFIXES
from linkner_ray.errors import DataError
from linkner_ray.labels import load_label_set
from tests.corpora.strategies import encode_tags, labelled_sentences

CONLL03 = load_label_set("conll03")


def parse(text):
    content = text if isinstance(text, bytes) else text.encode()
    return parse_conll(content, "x.conll", label_set=CONLL03)


def contents(corpus):
    return [
        (list(s.tokens), [(p.start_token, p.end_token, p.label) for p in s.spans])
        for s in corpus.sentences
    ]


def test_four_columns_with_spaces_in_iob1(data):
    corpus = parse((data / "iob1_four_columns.conll").read_bytes())
    assert contents(corpus) == [
        (
            ["Mary", "Stone", "met", "Paris", "Rome"],
            [(0, 2, "PER"), (3, 4, "LOC"), (4, 5, "LOC")],
        ),
        (["Acme", "sells", "."], [(0, 1, "ORG")]),
    ]
    assert (corpus.scheme, corpus.num_document_markers, corpus.opened_by_inside) == ("iob1", 2, 0)


def test_two_columns_with_tabs_in_iob2(data):
    corpus = parse((data / "iob2_tabs.conll").read_bytes())
    assert contents(corpus) == [
        (["Mary", "Stone", "met", "New York"], [(0, 2, "PER"), (3, 4, "LOC")]),
        (["Acme", "London"], [(0, 1, "ORG"), (1, 2, "LOC")]),
        (["nobody"], []),
    ]
    # Acme and London are both opened by I-
    assert (corpus.scheme, corpus.opened_by_inside, corpus.num_document_markers) == ("iob2", 2, 0)


def test_iobes(data):
    corpus = parse((data / "iobes.conll").read_bytes())
    assert [spans for _, spans in contents(corpus)] == [
        [(0, 3, "PER"), (4, 5, "LOC")],
        [(0, 3, "ORG")],
    ]
    assert (corpus.scheme, corpus.opened_by_inside, corpus.left_open) == ("iobes", 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.rstrip(),
        lambda content: b"\n \n\t\n" + content + b"\n\n \n",
        lambda content: content.replace(b"\n\n", b"\n\t\n"),
        lambda content: content.replace(b" ", b"   "),
        lambda content: content.replace(b" ", b"\t"),
        lambda content: content.replace(b" O\n", b" O \n"),
    ],
    ids=["crlf", "bom", "no_final_newline", "blank_ends", "tab_lines", "wide", "tabs", "trailing"],
)
def test_how_the_file_was_saved_does_not_matter(data, change):
    content = (data / "iob1_four_columns.conll").read_bytes()
    assert parse(change(content)).sentences == parse(content).sentences


def test_only_a_newline_ends_a_line():
    corpus = parse("a\u2028b\tO\nc\x85d\tO\n")
    assert contents(corpus) == [(["a\u2028b", "c\x85d"], [])]


def test_a_document_marker_ends_a_sentence_without_a_blank_line():
    corpus = parse("a O\n-DOCSTART- O\nb O\n")
    assert [tokens for tokens, _ in contents(corpus)] == [["a"], ["b"]]
    assert corpus.num_document_markers == 1


def test_a_token_of_white_space_that_is_no_space_is_a_token():
    for separator in ("\t", " "):
        text = f"\u00a0{separator}O\nb{separator}O\n"
        assert contents(parse(text)) == [(["\u00a0", "b"], [])]


@pytest.mark.parametrize(
    "text",
    [
        "# sent_id = 7\n# text = Rome O\nRome\tB-LOC\n\n# newpar\n\n#\tO\n#Ada\tB-PER\n",
        "# id a1\tdomain=en\nRome _ _ B-LOC\n\n# id a2\tdomain=en\n# _ _ O\n#Ada _ _ B-PER\n",
        "#begin document (nw/1)\nRome B-LOC\n\n#end document\n\n# O\n#Ada B-PER\n",
        "# x = B-LOC\nRome B-LOC\n\n# two words\n# sent_id = 2\n# O\n#Ada B-PER\n",
    ],
    ids=["conllu", "multiconer", "ontonotes", "spaces"],
)
def test_comments_before_a_sentence_are_no_tokens_and_hash_signs_are(text):
    corpus = parse(text)
    assert contents(corpus) == [(["Rome"], [(0, 1, "LOC")]), (["#", "#Ada"], [(1, 2, "PER")])]
    assert corpus.num_comments == text.count("\n") - text.count("\n\n") - 3


def test_a_corpus_of_hash_signs_alone_is_read():
    assert contents(parse("# O\n#1 B-ORG\n\n# O\n")) == [
        (["#", "#1"], [(1, 2, "ORG")]),
        (["#"], []),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a O\nb I-ANIMAL\n",
            r"x\.conll:2: label 'ANIMAL' is not in label set 'conll03'; known: PER, ORG",
        ),
        ("\na O\nb\n", r"x\.conll:3: expected 2 columns separated by space, .* found 1 in 'b'"),
        ("a O\n\nNew York B-LOC\n", r"x\.conll:3: expected 2 columns .* found 3"),
        ("a\tO\nb O\n", r"x\.conll:2: expected 2 columns separated by tab, .* found 1 in 'b O'"),
        ("\nalone\n", r"x\.conll:2: expected a token and a tag .* found 'alone'; is this"),
        ("a\tO\n\tO\n", r"x\.conll:2: the token is empty"),
        ("a O\n\nb B_PER\n", r"x\.conll:3: tag 'B_PER' is neither O nor one of"),
        ("a E-PER\nb O\nc L-PER\n", r"x\.conll:3: tag 'L-PER' does not belong to scheme iobes"),
        ("a O\n\n# B_PER\n", r"x\.conll:3: tag 'B_PER' is neither"),
        ("a\tO\n\n#\tO\tO\n", r"x\.conll:3: expected 2 columns separated by tab, .* found 3"),
        ("a O\n# comment inside\n", r"x\.conll:2: expected 2 columns .* found 3"),
        (b"a O\nZ\xfcrich O\n", r"x\.conll:2: byte 0xfc is not UTF-8"),
    ],
)
def test_a_bad_line_is_named(text, message):
    with pytest.raises(DataError, match=f"^{message}"):
        parse(text)


def test_a_long_line_is_cut_in_the_message():
    with pytest.raises(DataError) as caught:
        parse("word" * 10_000)
    assert len(str(caught.value)) < 300


COLUMN_TOKENS = st.one_of(
    st.sampled_from(["a", "New York", "-", "#", "O"]), st.text(min_size=1)
).filter(
    lambda token: (
        token == token.strip(" ")
        and not token.startswith("\ufeff")
        and not set(token) & set("\t\n")
        and token.split()[:1] != ["-DOCSTART-"]
    )
)


@pytest.mark.parametrize("scheme", sorted(PREFIXES))
@settings(max_examples=50)
@given(sentences=st.lists(labelled_sentences(COLUMN_TOKENS), max_size=4))
def test_columns_of_any_scheme_give_their_sentences(scheme, sentences):
    blocks = [
        zip(s.tokens, encode_tags(len(s.tokens), s.spans, scheme=scheme), strict=True)
        for s in sentences
    ]
    text = "\n".join("".join(f"{token}\t{tag}\n" for token, tag in block) for block in blocks)
    corpus = parse(text)
    assert list(corpus.sentences) == sentences
    assert (corpus.opened_by_inside, corpus.left_open, corpus.num_document_markers) == (0, 0, 0)
