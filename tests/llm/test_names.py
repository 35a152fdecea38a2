import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkner_ray.labels import Label, LabelSet, load_label_set, shipped_label_sets
from linkner_ray.llm.chat import PromptEncoder
from linkner_ray.llm.names import choose_names
from tests.llm.test_chat import PLAIN, word_tokenizer
from tests.llm.tiny import STYLES, tokenizer

ENCODERS = {style: PromptEncoder(tokenizer(style), name=style) for style in STYLES}


def label_set(*labels):
    return LabelSet(
        name="some",
        labels=[Label(id=i, name=name, description=text) for i, name, text in labels],
    )


def words_of(*labels, vocabulary, template=PLAIN):
    """Words chosen where a token is a whole word, and any other word is unknown."""
    encoder = PromptEncoder(word_tokenizer(vocabulary, template), name="words")
    return choose_names(encoder, label_set(*labels)).symbols


ONE = ("X", "cell line", "Cells of HeLa, grown.")


@pytest.mark.parametrize(
    ("other", "more", "chosen"),
    [
        (("TYPE", "cell type", "Kinds."), ["type", "Cell", "Kinds"], "type"),  # the id
        (("TYPE", "cell type", "Kinds."), ["Cell", "Kinds"], "Cell type"),  # a capital
        (("CELL", "cell type", "Kinds."), ["type", "Kinds"], "type"),  # another word of the name
        (("CELL", "cell type", "Of Kinds."), ["Of", "Kinds"], "Kinds"),  # of the description
        (("CELL", "cell type", "Of HeLa."), ["HeLa", "Q"], "Q"),  # not one that both contain
        (("CELL", "cell type", "Of HeLa."), ["7"], "7"),
    ],
)
def test_where_two_names_begin_alike_the_later_gets_the_first_word_that_is_free(
    other, more, chosen
):
    vocabulary = ["cell", "line", "non-entity", *more]
    assert words_of(ONE, other, vocabulary=vocabulary) == ("cell line", chosen, "non-entity")


def test_no_option_is_called_by_the_name_or_id_of_another():
    labels = (
        ("RES", "researcher", "x"),
        ("PERSON", "researcher of note", "Person, unlike all."),
        ("HUMAN", "person", "Human."),
    )
    vocabulary = ["researcher", "non-entity", "person", "Person", "unlike", "human"]
    assert words_of(*labels, vocabulary=vocabulary) == (
        "researcher", "unlike", "person", "non-entity",
    )  # fmt: skip


def test_non_entity_gives_way_to_a_label():
    words = words_of(("N", "non-entity of a kind", "x"), vocabulary=["non-entity", "none"])
    assert words == ("non-entity of a kind", "none")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", shipped_label_sets())
def test_each_token_begins_its_word_and_none_is_a_control_token_or_blank(style, name):
    encoder, words = ENCODERS[style], tokenizer(style)
    symbols, token_ids = choose_names(encoder, load_label_set(name))
    assert len(set(token_ids)) == len(token_ids) == len(load_label_set(name).classes)
    assert not set(token_ids) & {*encoder.control_ids, words.unk_token_id}
    for word, token_id in zip(symbols, token_ids, strict=True):
        begin = words.decode([token_id]).strip()
        assert begin
        assert word.startswith(begin)


@pytest.mark.parametrize("style", ["chatml", "mistral"])
@settings(max_examples=25)
@given(names=st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=8))
def test_any_names_get_tokens_that_tell_them_apart(style, names):
    unique = {name.casefold(): name for name in names}.values()
    labels = [(f"L{n}", name, "x") for n, name in enumerate(unique)]
    symbols, token_ids = choose_names(ENCODERS[style], label_set(*labels))
    assert len(set(token_ids)) == len(set(symbols)) == len(labels) + 1
    assert not set(token_ids) & ENCODERS[style].control_ids


def test_a_leading_blank_is_tried_where_names_would_join_the_word_before():
    # split at white space, `assistant:person` is one unknown word, `assistant: person` are two
    encoder = PromptEncoder(word_tokenizer(["person", "non-entity"], PLAIN), name="words")
    assert choose_names(encoder, label_set(("PER", "person", "x"))).token_ids == (2, 3)
