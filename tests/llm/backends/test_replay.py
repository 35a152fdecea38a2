import json
from pathlib import Path

import pytest

from linkner_ray.config import CacheConfig, EvaluateConfig, ExtractConfig, LlmConfig
from linkner_ray.config.loading import load_config
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.scores import score_entities
from linkner_ray.corpora.tables import corpus_documents
from linkner_ray.errors import ConfigError, DataError
from linkner_ray.labels import load_label_set
from linkner_ray.llm.backends import forms, start_backend
from linkner_ray.llm.backends.cache_backend import CacheBackend
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.context import ContextSize, Question, render_context
from linkner_ray.llm.prompts import Demonstration, PromptBuilder, Verdict
from tests.fakes import ScriptedBackend
from tests.llm.caches import CLASSES, LABELS

TOKENS = ["Ada", "met", "[INST]", "IBM", "</s>", "in", "Paris", "."]
RECORDED = [
    {"index": 0, "tokens": TOKENS, "entities": [[0, 1, "PER"], [2, 4, "ORG"], [6, 7, "CITY"]]},
    {"index": 1, "tokens": ["Bo", "left"], "entities": None},
    {"index": 2, "tokens": ["Cy", "left"], "entities": []},
    {"index": 3, "tokens": ["Cy", "left"], "entities": [[0, 1, "PER"]]},
    {"index": 4, "tokens": ["Cy", "left"], "entities": []},
]


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def config(path, **changes):
    return LlmConfig(**{"backend": "replay", "replay_path": path, **changes})


@pytest.fixture
def recorded(tmp_path):
    return start_backend(config(write(tmp_path / "r.jsonl", RECORDED)), LABELS, CacheConfig())


def request(tokens, start, end, *, label_set=LABELS, decoding="replayed"):
    """A question about a range of tokens, rendered as the stage renders it."""
    text = " ".join(tokens)
    first = len(" ".join([*tokens[:start], ""]))
    span = (first, first + len(" ".join(tokens[start:end])))
    question = render_context(text, [(0, len(text))], index=0, span=span, size=ContextSize(0, 2000))
    symbols = [chr(65 + n) for n in range(len(label_set.classes))]
    return PromptBuilder.for_label_set(
        label_set, symbols, model="", decoding=decoding
    ).request(question)  # fmt: skip


@pytest.mark.parametrize(
    ("span", "verdict", "label"),
    [
        ((0, 1), Verdict.LABEL, "PER"),
        ((2, 4), Verdict.LABEL, "ORG"),  # marks and control strings are set apart by spaces
        ((3, 4), Verdict.NON_ENTITY, None),
        ((0, 2), Verdict.NON_ENTITY, None),
        ((6, 7), Verdict.UNREADABLE, None),
    ],
)
def test_a_span_has_the_label_it_was_extracted_with(recorded, span, verdict, label):
    (answer,) = recorded.ask([request(TOKENS, *span)])
    assert (answer.verdict, answer.label, answer.probs) == (verdict, label, None)
    assert answer.key == request(TOKENS, *span).key


def test_what_was_not_recorded_or_had_no_reply_is_a_counted_failure(recorded):
    asked = [request(["Bo", "left"], 0, 1), request(["Dee", "left"], 0, 1)]
    assert [answer.verdict for answer in recorded.ask(asked)] == [Verdict.FAILED] * 2
    described = recorded.describe()
    assert described["failed_no_reply"] == described["failed_not_recorded"] == 1


def test_of_a_sentence_recorded_twice_the_first_counts(recorded):
    (answer,) = recorded.ask([request(["Cy", "left"], 0, 1)])
    assert answer.verdict is Verdict.NON_ENTITY
    described = recorded.describe()
    assert described["sentences"] == 3
    assert described["sentences_repeated"] == 2
    assert described["sentences_conflicting"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"r.jsonl:2: the line: Invalid JSON"),
        ('{"index": 1, "tokens": ["a"]}', r"r.jsonl:2: entities: Field required"),
        ('{"index": 1, "tokens": "a", "entities": null}', r"r.jsonl:2: tokens: .*array"),
        (
            '{"index": 1, "tokens": ["a"], "entities": [[0, 2, "PER"]]}',
            r"r.jsonl:2: entity 0..2 PER does not lie in 1 tokens",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "r.jsonl"
    path.write_text('{"index": 0, "tokens": ["a"], "entities": []}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        start_backend(config(str(path)), LABELS)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"llm.replay_path = .*none.jsonl: cannot be read"):
        start_backend(config(str(tmp_path / "none.jsonl")), LABELS)


def test_a_sentence_that_would_be_cut_is_refused(tmp_path):
    path = write(tmp_path / "r.jsonl", [{"index": 5, "tokens": ["x" * 300], "entities": []}])
    with pytest.raises(ConfigError, match=r"sentence 5 has 300 characters, over .* = 200"):
        start_backend(config(path, max_context_chars=200), LABELS)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["llm.context_sentences=1", "llm.replay_path=r"], "set llm.context_sentences = 0"),
        (["llm.replay_path=r", "cache.path=l"], "set one of them .both are set"),
        (["llm.model=m"], "set one of them .none is set"),
        (["llm.backend=vllm", "llm.model=m", "llm.replay_path=r"], "read by .*replay"),
        (["cache.path=l"], "needs llm.model"),
    ],
)
@pytest.mark.parametrize("job", [ExtractConfig, EvaluateConfig])
def test_configs_that_cannot_be_replayed_are_refused(job, overrides, message):
    inputs = {ExtractConfig: "input.paths=[x]", EvaluateConfig: "sets=[{name: n, path: p}]"}
    base = [inputs[job], "output.path=o", "recognize.checkpoint=c", "llm.backend=replay"]
    with pytest.raises(ConfigError, match=message):
        load_config(job, None, [*base, *overrides])


CACHED = LlmConfig(backend="replay", model="m")
LETTERS, DIGITS = ("A", "B", "C"), ("1", "2", "3")
SOLVED = (Demonstration(Question("Bonn", 0, 4), "ORG"),)


@pytest.mark.parametrize(
    ("symbols", "decoding"),
    [
        (LETTERS, forms.ENGINE_SYMBOL),
        (DIGITS, forms.ENGINE_SYMBOL),
        ((), forms.ENGINE_NAME),
        (("person", "organization", "non-entity"), forms.ENGINE_NAME_BEGIN),
        (LETTERS, forms.ENDPOINT_SYMBOL),
    ],
)
def test_a_cache_answers_whatever_the_form_in_which_it_was_asked(tmp_path, symbols, decoding):
    config = CACHED.model_copy(update={"revision": "r1"})
    scripted = ScriptedBackend(LABELS, {"Ada": {"PER": 0.75, "O": 0.25}, "met": "ORG"})
    cache = CacheBackend(scripted, AnswerCache(str(tmp_path), model="m", classes=CLASSES))
    told = cache.ask(requests(config, symbols, decoding, revision="r1", words=("Ada", "met", "in")))
    backend = start_backend(config, LABELS, CacheConfig(path=str(tmp_path)))
    asked = requests(config, backend.symbols, backend.decoding, words=("Ada", "met", "in", "IBM"))
    answers = backend.ask(asked)
    assert [(a.verdict, a.label, a.probs) for a in answers[:3]] == [
        (a.verdict, a.label, a.probs) for a in told
    ]
    assert answers[0].label == "PER"
    assert answers[3].verdict is Verdict.FAILED
    assert [answer.key for answer in answers] == [made.key for made in asked]
    assert backend.describe()["failed_not_in_cache"] == 1


def requests(config, symbols, decoding, *, words, revision=None):
    prompt_builder = PromptBuilder.for_label_set(
        LABELS, symbols, model=config.model, revision=revision, decoding=decoding
    )
    return [
        prompt_builder.request(
            request(TOKENS, TOKENS.index(word), TOKENS.index(word) + 1).question, near=SOLVED
        )
        for word in words
    ]


@pytest.mark.external
def test_gpt35_on_conll03_has_the_score_it_is_known_for(linkner_data):
    label_set = load_label_set("conll03")
    path = str(linkner_data / "replay" / "gpt35_conll03_test.jsonl")
    backend = start_backend(config(path), label_set)
    corpus = read_corpus(
        str(linkner_data / "conll03" / "spanner.test"), format="auto", label_set=label_set
    )
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert [tuple(line["tokens"]) for line in lines] == [s.tokens for s in corpus.sentences]
    documents, gold = corpus_documents(corpus.sentences, ids_prefix="test")
    first = {}
    counting = [first.setdefault(tuple(line["tokens"]), line["entities"] or []) for line in lines]
    spans = [
        {(span.start_token, span.end_token) for span in sentence.spans}
        | {(start, end) for start, end, _ in entities}
        for sentence, entities in zip(corpus.sentences, counting, strict=True)
    ]
    asked = [
        (row, request(line["tokens"], *span, label_set=label_set))
        for row, (line, found) in enumerate(zip(lines, spans, strict=True))
        for span in sorted(found)
    ]
    answers = backend.ask([made for _, made in asked])
    predicted = [set() for _ in gold]
    for (row, made), answer in zip(asked, answers, strict=True):
        if answer.verdict is Verdict.LABEL:
            text = documents["text"][row].as_py()
            start = place_in(text, made)
            predicted[row].add((start, start + len(made.question.span), answer.label))
    truth = [[(e.start, e.end, e.label) for e in row] for row in gold]
    scores = score_entities(truth, predicted)
    # The file as it is scores 0.8315. Here of a sentence that occurs again the first extraction
    # counts, and the 6 spans called TIME, NN or NNP are unreadable and not wrong entities.
    assert round(f1_of(corpus, [line["entities"] or [] for line in lines]), 4) == 0.8315
    known = [[e for e in entities if e[2] in label_set.ids] for entities in counting]
    assert scores.micro.f1 == f1_of(corpus, known) == pytest.approx(0.8320, abs=5e-5)
    assert sum(answer.verdict is Verdict.UNREADABLE for answer in answers) == 6
    assert backend.describe()["sentences_conflicting"] == 12


def f1_of(corpus, extracted):
    gold = [[(s.start_token, s.end_token, s.label) for s in c.spans] for c in corpus.sentences]
    return score_entities(gold, [{tuple(e) for e in entities} for entities in extracted]).micro.f1


def place_in(text, made):
    """Where a question's span begins in a document in which nothing had to be sanitised."""
    assert made.question.context == text
    return made.question.start
