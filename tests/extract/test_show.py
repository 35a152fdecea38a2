"""`linkner show` on real run folders."""

import re

import pyarrow as pa
import pytest

from linkner_ray.config import LlmConfig
from linkner_ray.errors import ConfigError, DataError
from linkner_ray.extract.show import show_document
from linkner_ray.labels import load_label_set
from linkner_ray.llm.backends.forms import ENGINE_NAME, ENGINE_SYMBOL
from linkner_ray.llm.context import ContextSize, render_context
from linkner_ray.llm.model_identity import model_revision
from linkner_ray.llm.prompts import PromptBuilder, choose_symbols
from linkner_ray.runs.folder import RunFolder
from linkner_ray.schemas import DOCUMENTS, QUARANTINE, STAGE_COLUMNS
from linkner_ray.stages.demonstration_source import fixed_demonstrations
from linkner_ray.stages.write_entities import WriteEntities, candidates_rows
from tests.runs.test_folder import unit_result

LABEL_SET = load_label_set("conll03")
LLM = {
    "backend": "vllm",
    "model": "tiny",
    "revision": None,
    "context_sentences": 0,
    "max_context_chars": 2000,
}
TEXT = "Ada met Siemens. \x1b[31mBye."


def class_probs(**given):
    return [given.get(name, 0.0) for name in LABEL_SET.classes]


def candidate(start, end, label, uncertainty, kind="predicted"):
    return {
        "sentence": 0,
        "start": start,
        "end": end,
        "label": label,
        "label_probs": class_probs(**{label: 0.75, "O": 0.25}),
        "uncertainty": uncertainty,
        "kind": kind,
    }


def entity(start, end, label, source):
    return {
        "start": start,
        "end": end,
        "text": TEXT[start:end],
        "label": label,
        "score": 0.75,
        "uncertainty": 0.25,
        "source": source,
        "local_label": label,
        "llm_label": None if source == "local" else label,
    }


SYMBOLS = choose_symbols(len(LABEL_SET.classes))


def key_of(span, decoding=ENGINE_SYMBOL, fixed=(), symbols=SYMBOLS, revision=None, **settings):
    config = LlmConfig.model_validate(LLM | settings)
    prompt_builder = PromptBuilder.for_label_set(
        LABEL_SET, symbols, model=config.model, revision=revision, decoding=decoding
    )
    question = render_context(
        TEXT, [(0, 16), (17, 26)], index=0, span=span, size=ContextSize(0, 2000)
    )
    return prompt_builder.request(question, fixed=fixed).key


def stage_table(doc_id, key, *, routes=("local", "llm")):
    answer = {
        "verdict": "label",
        "label": "ORG",
        "probs": class_probs(ORG=0.875, O=0.125),
        "key": key,
        "source": "llm",
        "prompt_tokens": 9,
    }
    columns = {
        "doc_id": [doc_id],
        "url": ["http://a/\x1b]0;title"],
        "lang": [None],
        "text": [TEXT],
        "sentences": [
            [{"start": 0, "end": 16, "tokens": []}, {"start": 17, "end": 26, "tokens": []}]
        ],
        "candidates": [[candidate(0, 3, "PER", 0.03), candidate(8, 15, "ORG", 0.25, "near_miss")]],
        "routes": [list(routes)],
        "answers": [[None, answer]],
        "entities": [[entity(0, 3, "PER", "local"), entity(8, 15, "ORG", "llm")]],
    }
    types = {field.name: field.type for field in DOCUMENTS} | STAGE_COLUMNS
    return pa.table({name: pa.array(rows, types[name]) for name, rows in columns.items()})


@pytest.fixture
def make_run(tmp_path):
    """Writes a run with one document a part file."""

    def make(
        *doc_ids,
        keep_text=True,
        keep_candidates=True,
        key=None,
        llm=LLM,
        url=str(tmp_path),
        **stage,
    ):
        run = RunFolder(url)
        run.begin(
            {"plan": {}, "config": {"llm": llm}, "label_set": LABEL_SET.model_dump(mode="json")}
        )
        for number, doc_id in enumerate(doc_ids):
            table = stage_table(doc_id, key or key_of((8, 15)), **stage)
            run.commit(
                unit_result(number),
                entities=WriteEntities(keep_text=keep_text)(table),
                quarantine=QUARANTINE.empty_table(),
                candidates=candidates_rows(table) if keep_candidates else None,
            )
        return url

    return make


def test_a_damaged_part_file_is_named(make_run, tmp_path):
    output = make_run("page-1")
    [part] = (tmp_path / "entities").iterdir()
    part.write_bytes(b"no parquet")
    with pytest.raises(DataError, match=rf"{part.name} is missing or damaged"):
        show_document(output, "page-1")


def test_an_audit_is_shown_with_its_answer_and_what_the_budget_left_without(make_run):
    shown = show_document(make_run("page-1", routes=("over_budget", "audit")), "page-1")
    assert "    route    over budget\n" in shown
    assert "    route    audit, answered by llm\n    verdict  label ORG" in shown
    assert "| Ada met Siemens." in shown


def test_entities_candidates_verdicts_and_the_prompt_are_shown(make_run):
    shown = show_document(make_run("page-1", "page-2"), "page-2")
    assert "document   page-2" in shown
    assert "part-abc-0000000001.parquet" in shown
    assert '  8..15  ORG 0.750  by llm  "Siemens"' in shown
    assert "2 candidates, 1 of them sent to the LLM" in shown
    assert "    local    predicted PER, uncertainty 0.030; PER 0.750, O 0.250, " in shown
    assert "    local    near_miss ORG, uncertainty 0.250; ORG 0.750" in shown
    assert "    verdict  label ORG; ORG 0.875, O 0.125, " in shown
    assert "| Ada met Siemens." in shown
    assert "rendered anew" not in shown
    # The part that all prompts share is shown once, with every label on offer.
    assert shown.count("Options:") == 1
    assert all(f"{label.name}: {label.description}" in shown for label in LABEL_SET.labels)


def test_a_prompt_that_offered_names_is_shown_as_it_was(make_run):
    key = key_of((8, 15), ENGINE_NAME, symbols=())
    shown = show_document(make_run("page-1", key=key), "page-1")
    assert "rendered anew" not in shown
    assert "| - person: " in shown


def test_demonstrations_are_shown_as_they_were_asked_with(make_run, tmp_path):
    corpus = tmp_path / "train.conll"
    corpus.write_text("Bo B-PER\nleft O\nBonn B-LOC\n\nIBM B-ORG\ncalled O\nHu B-PER\n")
    settings = {"demonstrations": {"kind": "random", "corpus": str(corpus)}}
    config = LlmConfig.model_validate(LLM | settings)
    fixed = fixed_demonstrations(config, LABEL_SET)
    key = key_of((8, 15), fixed=fixed, **settings)
    shown = show_document(make_run("page-1", key=key, llm=LLM | settings), "page-1")
    assert "rendered anew" not in shown
    assert "| Examples, each with the right reply:" in shown
    corpus.unlink()
    assert "rendered anew" in show_document(str(tmp_path), "page-1")


def test_a_prompt_that_cannot_be_the_one_asked_says_so(make_run):
    shown = show_document(make_run("page-1", key="k0:of-an-earlier-version"), "page-1")
    assert "rendered anew" in shown
    assert "| Ada met Siemens." in shown


def test_without_the_text_the_option_that_keeps_it_is_named(make_run):
    shown = show_document(make_run("page-1", keep_text=False), "page-1")
    assert "prompt   cannot be shown; run with output.keep_text=true" in shown
    assert "verdict  label ORG" in shown


def test_without_candidates_the_option_that_keeps_them_is_named(make_run):
    shown = show_document(make_run("page-1", keep_candidates=False), "page-1")
    assert '"Siemens"' in shown
    assert "not kept; run with output.keep_candidates=true" in shown


def test_no_control_character_reaches_the_terminal(make_run):
    shown = show_document(make_run("page\x1b[2J"), "page\x1b[2J")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown)


def test_documents_of_one_id_are_all_shown(make_run):
    shown = show_document(make_run("page-1", "page-1"), "page-1")
    assert shown.count("document   page-1") == 2


def test_a_run_on_an_object_store_is_read_too(make_run):
    shown = show_document(make_run("page-1", url="memory://test-show/run"), "page-1")
    assert "| Ada met Siemens." in shown


def test_an_unknown_document_is_answered_with_similar_ids(make_run):
    with pytest.raises(ConfigError, match=r"no document 'page-21'; .*'page-1'"):
        show_document(make_run("page-1", "index"), "page-21")


def test_a_run_without_documents_says_so(make_run):
    with pytest.raises(ConfigError, match="it has no documents at all"):
        show_document(make_run(), "page-1")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"is not the output of a run: it has no _run\.json"):
        show_document(str(tmp_path), "page-1")


def test_the_prompt_of_a_model_in_a_folder_is_found_by_its_content(make_run, tmp_path):
    folder = tmp_path / "llm"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    llm = {**LLM, "model": str(folder)}
    key = key_of((8, 15), model=str(folder), revision=model_revision(LlmConfig(**llm)))
    url = make_run("page", key=key, llm=llm, url=str(tmp_path / "run"))
    assert "rendered anew" not in show_document(url, "page")
    (folder / "config.json").write_text("changed")
    assert "rendered anew" in show_document(url, "page")


def test_a_run_whose_recording_is_gone_can_be_shown(make_run, tmp_path):
    llm = {**LLM, "backend": "replay", "replay_path": str(tmp_path / "gone.jsonl")}
    assert "verdict  label ORG" in show_document(make_run("page", llm=llm), "page")
