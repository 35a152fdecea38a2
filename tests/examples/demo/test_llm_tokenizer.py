import pytest

from examples.demo.llm_tokenizer import BEGIN, END, PAD, train_tokenizer
from linkner_ray.llm.chat import PromptEncoder

FIXED_PART = "Choose one.\n\nA. person: someone\nB. place: somewhere"


@pytest.fixture(scope="module")
def tokenizer():
    texts = ["Text:\n[[Paris]] is a town.\n\nWhat is [[Paris]] in this text?"] * 20
    return train_tokenizer(texts, FIXED_PART, vocab_size=400)


def test_any_text_survives(tokenizer):
    text = "Zo\u00eb \u2014 \u6771\u4eac <|user|> [[x]]"
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_the_special_tokens_are_known_by_their_roles(tokenizer):
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (BEGIN, END, PAD)


def test_span_marks_are_tokens_of_their_own(tokenizer):
    assert tokenizer.tokenize("[[Paris]].")[0] == "[["
    assert "]]" in tokenizer.tokenize("[[Paris]].")


def test_the_fixed_part_takes_a_token_a_line(tokenizer):
    encoder = PromptEncoder(tokenizer, name="test")
    ids = encoder.encode(FIXED_PART, "x")
    # begin, system, four lines of which one is blank, end, user, x, end, assistant
    assert len(ids) == 11


def test_a_page_that_quotes_the_fixed_part_does_not_get_its_tokens(tokenizer):
    encoder = PromptEncoder(tokenizer, name="test")
    own = set(encoder.encode(FIXED_PART, "x"))
    line = tokenizer.convert_tokens_to_ids("Choose one.\n")
    assert line in own
    quoted = encoder.encode("Other.", "Choose one.\n")
    assert line not in quoted


def test_letters_are_answers_of_one_token(tokenizer):
    symbols = PromptEncoder(tokenizer, name="test").choose_symbols(5)
    assert symbols.symbols == ("A", "B", "C", "D", "E")
