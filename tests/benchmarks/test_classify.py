import json

import pytest

from benchmarks import classify
from benchmarks.classify_numbers import compare
from benchmarks.classify_ways import time_stage
from benchmarks.classify_work import Pass, Work
from benchmarks.questions import load_documents, make_questions, shared_length
from examples.demo import OWN_LLM
from linkner_ray.config import LlmConfig
from linkner_ray.errors import ConfigError, ContractError, StartupError
from linkner_ray.labels import NON_ENTITY
from linkner_ray.llm.prompts import Verdict
from tests.fakes import ScriptedBackend
from tests.llm.tiny import tokenizer

CORPUS = (
    "EU B-ORG\nrejects O\nGerman O\ncall O\n\n"
    "Peter B-PER\nBlackburn I-PER\nmet O\nAngela B-PER\nMerkel I-PER\n\n"
    "EU B-ORG\nrejects O\nGerman O\ncall O\n\n"
    "Paris B-LOC\n, O\nLondon B-LOC\nand O\nNew B-LOC\nYork I-LOC\n\n"
)
CONFIG = LlmConfig(model="tiny")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "dev.conll"
    path.write_text(CORPUS)
    return str(path)


@pytest.fixture(scope="module")
def questions(corpus):
    documents, label_set = load_documents(corpus, None)
    return make_questions(documents, label_set, tokenizer("chatml"), count=100)


def work(questions, passes=1):
    return Work(
        config=CONFIG,
        label_set=questions.label_set,
        documents=questions.documents,
        prompts=[list(prompt) for prompt in questions.prompts],
        symbol_ids=list(questions.symbol_ids),
        passes=passes,
    )


def marked(questions):
    """What each prompt marks."""
    words = tokenizer("chatml")
    texts = [words.decode(prompt).split("Text:")[1] for prompt in questions.prompts]
    return [text.split("[[")[1].split("]]")[0] for text in texts]


def test_gold_spans_are_asked_once_each_in_the_order_of_the_file(questions):
    # the third sentence repeats the first
    assert marked(questions) == ["EU", "Peter Blackburn", "Angela Merkel", "Paris", "London",
                                 "New York"]  # fmt: skip
    assert len(set(questions.symbol_ids)) == len(questions.label_set.classes)
    assert questions.num_tokens == sum(map(len, questions.prompts))
    assert shared_length(questions.prompts) > 100  # the fixed part


def test_a_corpus_without_a_labelled_span_is_refused(tmp_path):
    (tmp_path / "empty.conll").write_text("nothing O\n\n")
    with pytest.raises(ConfigError, match="no labelled span"):
        load_documents(str(tmp_path / "empty.conll"), None)


def test_the_stage_is_timed_with_any_backend(questions):
    label_set = questions.label_set
    script = {"Paris": "LOC", "Peter Blackburn": {"PER": 0.75, NON_ENTITY: 0.25}}
    backend = ScriptedBackend(label_set, script)
    emptied = []
    passes, probs = time_stage(
        work(questions, passes=2), backend, prepare=lambda: emptied.append(1), busy=lambda: 0.5
    )
    assert (len(passes), len(emptied), backend.num_calls) == (2, 2, 2)
    assert all(one.wall > 0 and one.busy == 0.5 for one in passes)
    assert len(probs) == len(questions.prompts)
    # labels in the order of their set, then non-entity
    person, place = label_set.ids.index("PER"), label_set.ids.index("LOC")
    assert probs[1][person] == pytest.approx(0.75)
    assert probs[1][-1] == pytest.approx(0.25)
    assert probs[3][place] == 1.0
    assert probs[0][-1] == 1.0


def test_answers_that_failed_are_not_timed(questions):
    backend = ScriptedBackend(questions.label_set, {"Paris": Verdict.FAILED})
    with pytest.raises(StartupError, match="1 of 6 questions failed"):
        time_stage(work(questions), backend, prepare=lambda: None)


def test_parity_tells_ties_from_differences():
    one = [[0.5, 0.3, 0.2], [0.4, 0.399, 0.201], [0.6, 0.2, 0.2], [0.1, 0.1, 0.8]]
    other = [[0.5, 0.3, 0.2], [0.398, 0.4, 0.202], [0.2, 0.6, 0.2]]
    found = compare(one, other, tie=0.01)
    # the second differs by 0.002 at most; the third by 0.4; the fourth has no counterpart
    assert (found.num_compared, found.num_ties, found.num_different) == (3, 1, 1)
    assert found.max_difference == pytest.approx(0.4)


NAMES = ["stage", "raw_vllm", "ray_data_llm"]


@pytest.fixture
def options(corpus):
    return [
        *("--llm", str(OWN_LLM), "--data", corpus, "--requests", "20"),
        *("--passes", "2", "--rounds", "2", "--ways", ",".join(NAMES)),
    ]


def measured_by(probs_of):
    """Stands for the processes: seconds and answers by way."""
    order = []

    def in_own_process(way, work, _folder, **_limits):
        order.append(way)
        seconds = {"stage": 2.0, "raw_vllm": 1.0, "ray_data_llm": 4.0}[way]
        count = len(work.prompts)
        busy = 0.9 * seconds if way == "stage" else None
        passes = [Pass(seconds, 0.1, 0.2, busy) for _ in range(work.passes)]
        return passes, [probs_of(way) for _ in range(count)]

    return in_own_process, order


def test_ratios_table_and_file(options, monkeypatch, tmp_path, capsys):
    probs = [0.1, 0.2, 0.3, 0.25, 0.15]
    fake, order = measured_by(lambda way: probs if way != "stage" else [*probs[:3], 0.24, 0.16])
    monkeypatch.setattr(classify, "in_own_process", fake)
    numbers = classify.main([*options, "--json", str(tmp_path / "numbers.json")])
    assert json.loads((tmp_path / "numbers.json").read_text()) == numbers
    # an order that turns
    assert order == [*NAMES, *NAMES[1:], NAMES[0]]
    assert numbers["requests"] == 6
    # 6 questions in 2 s, in 1 s, in 4 s
    assert numbers["requests_per_s_stage"] == 3.0
    assert numbers["ratio_stage_to_raw_vllm"] == 0.5
    assert numbers["ratio_stage_to_ray_data_llm"] == 2.0
    assert numbers["engine_busy_share"] == pytest.approx(0.9)
    assert numbers["max_probability_difference_raw_vllm"] == pytest.approx(0.01)
    assert numbers["load_average_before"] >= 0
    printed = capsys.readouterr().out
    assert "| stage | 6 | 3.0 | 3.0 |" in printed
    assert "ratio_stage_to_raw_vllm" in printed


def test_ways_that_disagree_are_not_reported(options, monkeypatch):
    fake, _ = measured_by(lambda way: [0.1, 0.9] if way == "stage" else [0.9, 0.1])
    monkeypatch.setattr(classify, "in_own_process", fake)
    with pytest.raises(ContractError, match="stage and raw_vllm give different labels to 6 of 6"):
        classify.main(options)


def test_a_way_that_hangs_is_ended_and_named(questions, tmp_path):
    with pytest.raises(StartupError, match=r"stage took over 0\.01 s"):
        classify.in_own_process("stage", work(questions), tmp_path, timeout_s=0.01)


def test_a_process_that_fails_is_quoted(questions, tmp_path):
    with pytest.raises(StartupError, match=r"(?s)another ended with 2:.*invalid choice: 'another'"):
        classify.in_own_process("another", work(questions), tmp_path)


@pytest.mark.soak
@pytest.mark.vllm
@pytest.mark.ray
def test_every_way_with_a_real_engine_gives_the_same_answers(options):
    ways = ["stage", "raw_vllm", "ray_data_llm"]
    numbers = classify.main([*options, "--rounds", "1", "--passes", "1", "--ways", ",".join(ways)])
    for way in ways:
        assert numbers[f"requests_{way}"] == 6
        assert numbers[f"requests_per_s_{way}"] > 0
        assert numbers[f"max_probability_difference_{way}"] < 1e-3
    assert 0 < numbers["engine_busy_share"] <= 1
    assert numbers["ratio_stage_to_raw_vllm"] > 0
