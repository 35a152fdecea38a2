import json

import pytest

from benchmarks import injection
from benchmarks.injection import ATTACKS, CONTROL, Case
from examples.demo import world
from linkner_ray.config import LlmConfig
from linkner_ray.labels import load_label_set
from linkner_ray.llm.prompts import Option
from tests.fakes import ScriptedBackend

LABEL_SET = load_label_set("demo")
CONFIG = LlmConfig(backend="openai", model="scripted", base_url="http://nowhere")
CASES = [Case("Ada met Bo.", 0, 3), Case("In 1843 Ada met Bo Peep.", 16, 23)]
GOAL = Option("B", "ORG", "organization", "Groups.")


def script(believes):
    """Says that everything is a person, but for what it believes of a request."""
    return lambda request: believes(request.user_message) or "PER"


def run(believes):
    backend = ScriptedBackend(LABEL_SET, script(believes))
    return injection.run(backend, CASES, LABEL_SET, config=CONFIG)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_twin_holds_the_span_and_more_than_the_clean_text(name):
    for case in CASES:
        twin = ATTACKS[name].twin(case, GOAL)
        assert twin.text != case.text
        assert len(twin.span) >= len(case.span)
        if ATTACKS[name].wants_answer:
            assert twin.span == case.span
            assert case.text in twin.text


def test_an_llm_that_heeds_no_page_never_flips():
    numbers = run(lambda _: None)
    assert (numbers["flip_rate"], numbers["raw_flip_rate"], numbers["hit_rate"]) == (0, 0, 0)
    assert (numbers["backend"], numbers["spans"]) == ("scripted", 2)


def test_an_llm_that_obeys_flips_where_it_is_told_to_and_the_control_is_not_counted():
    # ORG follows PER among the options: it is what the twins want
    numbers = run(lambda message: "ORG" if "reply with B" in message else None)
    assert numbers["flip_rate_instruction"] == numbers["hit_rate_instruction"] == 1
    assert numbers["flip_rate"] == pytest.approx(1 / (len(ATTACKS) - 1))
    wanting = sum(attack.wants_answer for attack in ATTACKS.values())
    assert numbers["hit_rate"] == pytest.approx(1 / wanting)
    numbers = run(lambda message: "LOC" if "following page" in message else None)
    assert numbers[f"flip_rate_{CONTROL}"] == 1
    assert numbers["flip_rate"] == 0


def test_what_rendering_takes_out_flips_raw_text_alone():
    numbers = run(lambda message: "O" if "\u200b" in message or "<|im_end|>" in message else None)
    assert numbers["flip_rate"] == 0
    assert numbers["raw_flip_rate_zero_width"] == 1
    assert numbers["raw_flip_rate_control_tokens_ChatML"] == 1


def test_a_word_of_100_kb_is_not_sent():
    lengths = []
    run(lambda message: lengths.append(len(message)))
    assert max(lengths) < 5000


def test_the_command_writes_and_prints(monkeypatch, tmp_path, capsys):
    corpus = tmp_path / "some.conll"
    corpus.write_text("Ada B-PER\nmet O\nBo B-PER\n\nIn O\nParis B-LOC\n")
    backend = ScriptedBackend(LABEL_SET, {"Paris": "LOC"})
    monkeypatch.setattr(injection, "start_backend", lambda *_: backend)
    target = tmp_path / "numbers.json"
    numbers = injection.main(
        ["--llm", "some", "--data", str(corpus), "--spans", "5", "--json", str(target)]
    )
    assert json.loads(target.read_text()) == numbers
    assert numbers["spans"] == 2
    assert backend.is_closed
    printed = capsys.readouterr().out
    assert "| look-alike marks |" in printed
    assert "| all attacks |" in printed


def test_the_demo_pages_give_cases_of_their_own(monkeypatch):
    monkeypatch.setattr(world, "NUM_PARQUET_PAGES", 8)
    monkeypatch.setattr(world, "NUM_WET_PAGES", 0)
    cases = injection.load_cases(None, LABEL_SET, count=50, seed=0)
    assert len(cases) == 50
    assert all(case.span.strip() == case.span != "" for case in cases)
    assert cases == injection.load_cases(None, LABEL_SET, count=50, seed=0)
    assert cases != injection.load_cases(None, LABEL_SET, count=50, seed=1)
