"""The counters of a small unit, worked out by hand, and the check on sums."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from linkner_ray.errors import ContractError
from linkner_ray.labels import Label, LabelSet
from linkner_ray.runs.counters import (
    SOURCES,
    add_counts,
    check_counters,
    count_costs,
    count_unit,
    label_counter,
    num_asked,
    num_failed,
    num_unreadable,
    routed_share,
    source_counter,
)
from linkner_ray.schemas import DOCUMENTS, QUARANTINE, STAGE_COLUMNS
from linkner_ray.stages.fuse_entities import FuseEntities
from linkner_ray.stages.write_entities import WriteEntities

CLASSES = ("O", "PER", "ORG")


def candidate(start, end, uncertainty, kind="predicted"):
    return {
        "sentence": 0,
        "start": start,
        "end": end,
        "label": "PER",
        "label_probs": [0.25, 0.75, 0.0],
        "uncertainty": uncertainty,
        "kind": kind,
    }


def answer(verdict, key, label=None, source="llm", tokens=10):
    return {
        "verdict": verdict,
        "label": label,
        "probs": None,
        "key": key,
        "source": source,
        "prompt_tokens": tokens,
    }


def quarantine(*rows):
    columns = {name: [] for name in QUARANTINE.names}
    for row in rows:
        for name, values in columns.items():
            values.append(row.get(name))
    return pa.table(columns, schema=QUARANTINE)


def sentence(start, end, num_tokens):
    tokens = [{"start": start, "end": start + 1}] * num_tokens
    return {"start": start, "end": end, "tokens": tokens}


def unit_table(sentences=None):
    columns = {
        "doc_id": ["a", "b"],
        "url": [None, None],
        "lang": [None, None],
        # 20 characters in the sentences 0..7 and 8..21, a blank at 7 between; then 3 blank ones
        "text": ["Ada Bob Cy Dee Eve Fy", "\n\t "],
        "sentences": [sentences or [sentence(0, 7, 2), sentence(8, 21, 4)], []],
        "candidates": [
            [
                candidate(0, 3, 0.0),  # certain
                candidate(4, 7, 0.5),  # flips to ORG
                candidate(8, 10, 0.52),  # dropped by the LLM
                candidate(11, 14, 1.0),  # unreadable: stays PER
                candidate(15, 18, 0.05, "near_miss"),  # added by the LLM
                candidate(15, 21, 0.04, "near_miss"),  # failed: never enters
                candidate(0, 7, 0.6),  # label PER, but loses to the certain one
            ],
            [],
        ],
        "routes": [["local", "llm", "llm", "llm", "llm", "llm", "llm"], []],
        "answers": [
            [
                None,
                answer("label", "k1", "ORG"),
                answer("non_entity", "k2"),
                answer("unreadable", "k3", source="cache", tokens=99),
                answer("label", "k1", "PER"),
                answer("failed", "k4", tokens=None),
                answer("label", "k5", "PER"),
            ],
            [],
        ],
    }
    return fused(columns)


def fused(columns, link=None):
    types = {field.name: field.type for field in DOCUMENTS} | STAGE_COLUMNS
    table = pa.table({name: pa.array(rows, types[name]) for name, rows in columns.items()})
    return FuseEntities(CLASSES, link)(table)


QUARANTINED = quarantine(
    {"path": "x", "record": 3, "reason": "null_text", "detail": "", "num_chars": 0},
    {"path": "x", "record": 4, "reason": "too_long", "detail": "", "num_chars": 1000},
    {"path": "y", "record": None, "reason": "unreadable_file", "detail": "", "num_chars": 0},
)


@pytest.fixture
def counts():
    return counts_of(unit_table())


def routed_table(*judged, link=None):
    """A document of one candidate a word, each given as route, answer and local label."""
    words = ["Ada", "Bob", "Cyd", "Dee", "Eve", "Fay"][: len(judged)]
    spans = [candidate(4 * i, 4 * i + 3, 0.2) | {"label": j[2]} for i, j in enumerate(judged)]
    columns = {
        "doc_id": ["a"],
        "url": [None],
        "lang": [None],
        "text": [" ".join(words)],
        "sentences": [[sentence(0, 4 * len(words) - 1, len(words))]],
        "candidates": [spans],
        "routes": [[route for route, _, _ in judged]],
        "answers": [[reply for _, reply, _ in judged]],
    }
    return fused(columns, link)


def test_every_route_is_counted_and_audits_stand_apart():
    table = routed_table(
        ("local", None, "PER"),
        ("over_budget", None, "ORG"),
        ("llm", answer("failed", "k1", tokens=None), "PER"),
        ("audit", answer("label", "k2", "PER"), "PER"),
        ("audit", answer("non_entity", "k3"), "PER"),
        ("audit", answer("failed", "k4", tokens=None), "ORG"),
    )
    counts = counts_of(table)
    expected = {
        "candidates": 6,
        "stayed_local": 1,
        "routed": 1,
        "audited": 3,
        "over_budget": 1,
        "verdict_failed": 1,
        "verdict_label": 0,
        "audit_agree_PER": 1,
        "audit_disagree_PER": 1,
        "audit_failed_ORG": 1,
        "questions": 4,
        "dropped_by_llm": 0,
        "entities": 6,
        "entities_source_local": 6,
    }
    assert {name: counts[name] for name in expected} == expected
    check_counters(counts)
    assert (num_asked(counts), num_failed(counts), num_unreadable(counts)) == (4, 2, 0)


def test_the_same_words_are_counted_apart_and_cost_no_question():
    answers = [answer("label", "k1", "ORG"), answer("non_entity", "k2"), answer("failed", "k3")]
    table = routed_table(
        *(("llm", one, "PER") for one in answers), *(("same_name", one, "PER") for one in answers)
    )
    counts = counts_of(table)
    expected = {
        "candidates": 6,
        "routed": 3,
        "same_name": 3,
        "same_name_undecided": 1,
        "questions": 3,
        "prompt_tokens": 30,
        "verdict_failed": 1,
        "dropped_by_llm": 2,
        "dropped_in_fusion": 0,
        "entities": 4,
        "entities_source_llm": 1,
        "entities_source_same_name": 1,
        "source_same_name_ORG": 1,
        "entities_source_local": 2,
        "flips": 2,
    }
    assert {name: counts[name] for name in expected} == expected
    check_counters(counts)
    assert (num_asked(counts), num_failed(counts)) == (3, 1)


def test_an_entity_kept_against_the_llm_is_not_one_it_dropped():
    link = SimpleNamespace(fuse=lambda *_: (np.array([1, 0]), np.array([0.6, 0.7])))
    refused = [("llm", answer("non_entity", key), "PER") for key in ("k1", "k2")]
    table = routed_table(*refused, link=link)
    counts = counts_of(table)
    found = {n: counts[n] for n in ("kept_against_llm", "dropped_by_llm", "dropped_in_fusion")}
    assert found == {"kept_against_llm": 1, "dropped_by_llm": 1, "dropped_in_fusion": 0}
    assert (counts["verdict_non_entity"], counts["entities"]) == (2, 1)


def counts_of(table):
    output = WriteEntities(keep_text=False)(table)
    return count_unit(table, output=output, quarantine=QUARANTINED, skipped={"warcinfo": 2})


def test_documents_and_characters_by_hand(counts):
    expected = {
        "documents_read": 4,  # two rows and two quarantined records; a file is no document
        "documents_entities": 1,
        "documents_empty": 1,
        "documents_quarantined": 2,
        "files_quarantined": 1,
        "quarantine_null_text": 1,
        "quarantine_too_long": 1,
        "quarantine_unreadable_file": 1,
        "records_skipped_warcinfo": 2,
        "characters_total": 1024,  # 21 + 3 + 1000
        "characters_in_sentences": 20,
        "characters_between_sentences": 4,
        "characters_quarantined": 1000,
        "sentences": 2,
        "tokens": 6,
    }
    assert {name: counts[name] for name in expected} == expected


def test_candidates_answers_and_entities_by_hand(counts):
    expected = {
        "candidates_predicted": 5,
        "candidates_near_miss": 2,
        "routed": 6,
        "questions": 5,
        "verdict_label": 3,
        "verdict_non_entity": 1,
        "verdict_unreadable": 1,
        "verdict_failed": 1,
        "prompt_tokens": 129,  # k1 and k2 and k5 at 10, k3 at 99, k4 unknown
        "entities": 4,
        "entities_PER": 3,
        "entities_ORG": 1,
        "entities_source_local": 2,
        "entities_source_llm": 2,
        "source_llm_ORG": 1,
        "source_llm_PER": 1,
        "source_local_PER": 2,
        "flips": 1,
        "dropped_by_llm": 1,
        "added_by_llm": 1,
        "dropped_in_fusion": 1,
    }
    assert {name: counts[name] for name in expected} == expected
    assert routed_share(counts) == 6 / 7


def test_costs_counts_each_question_once_and_apart_from_what_was_kept():
    assert count_costs(unit_table()) == {
        "questions_asked": 4,  # k1, k2, k4, k5
        "questions_from_cache": 1,  # k3
        "questions_from_previous": 0,
        "prompt_tokens_asked": 30,
    }


def test_uncertainty_bins_are_half_open_and_the_last_holds_one(counts):
    # 0.0 -> 0; 0.5 and 0.52 -> 10; 0.6 in float32 is just above 12/20 -> 12; 1.0 -> 19;
    # near misses: 0.05 in float32 is just above 1/20 -> 1; 0.04 -> 0
    filled = {n: c for n, c in counts.items() if n.startswith("uncertainty_") and c}
    assert filled == {
        "uncertainty_predicted_bin_00": 1,
        "uncertainty_predicted_bin_10": 2,
        "uncertainty_predicted_bin_12": 1,
        "uncertainty_predicted_bin_19": 1,
        "uncertainty_near_miss_bin_00": 1,
        "uncertainty_near_miss_bin_01": 1,
    }


def test_the_counts_of_two_slices_add_up_to_those_of_the_whole(counts):
    table = unit_table()
    nothing = quarantine()
    output = WriteEntities(keep_text=False)(table)
    second = count_unit(table.slice(1), output=output.slice(1), quarantine=nothing, skipped={})
    first = count_unit(
        table.slice(0, 1),
        output=output.slice(0, 1),
        quarantine=QUARANTINED,
        skipped={"warcinfo": 2},
    )
    add_counts(first, second)
    assert first == counts
    check_counters(counts)


def test_a_unit_without_documents_and_a_run_without_units_add_up():
    empty = unit_table().slice(2)
    output = WriteEntities(keep_text=False)(empty)
    counts = count_unit(empty, output=output, quarantine=quarantine(), skipped={})
    for totals in (counts, {}):
        check_counters(totals)
        assert routed_share(totals) == 0.0


@pytest.mark.parametrize("source", SOURCES)
def test_no_label_is_called_like_the_counter_of_a_source(source):
    """Its entities were counted under the same name, and the run ended with sums that differ."""
    name = source_counter(source).removeprefix(label_counter(""))
    with pytest.raises(ValueError, match=f"'{name}' is what a run counts the .* by and cannot be"):
        LabelSet(name="mine", labels=[Label(id=name, name="x", description="y")])


@pytest.mark.parametrize(
    "sentences",
    [
        [sentence(0, 7, 2), sentence(10, 21, 4)],  # "Cy" stands in no sentence
        [sentence(0, 9, 2), sentence(8, 21, 4)],  # one character in two sentences
    ],
)
def test_a_character_left_out_or_counted_twice_is_noticed(sentences):
    with pytest.raises(ContractError, match="characters_total is 1024"):
        check_counters(counts_of(unit_table(sentences)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("documents_empty", "documents_read is 4, but documents_entities 1"),
        ("verdict_failed", "routed is 6, but verdict_label 3"),
        ("over_budget", "candidates is 7, but stayed_local 1"),
        ("audit_agree_PER", "audited is 0, but audit_agree_PER 1"),
        ("entities_PER", "entities is 4, but entities_ORG 1"),
        ("entities_source_llm", "entities is 4, but entities_source_local 2"),
        ("uncertainty_predicted_bin_03", "candidates_predicted is 5, but"),
    ],
)
def test_a_sum_that_does_not_add_up_is_named_with_its_parts(counts, name, message):
    counts[name] = counts.get(name, 0) + 1
    with pytest.raises(ContractError, match=message):
        check_counters(counts)
