"""The three rules on a small model: what each may ask about, and who looks at gold."""

import pytest

from benchmarks import leak
from linkner_ray.corpora.corpus import read_corpus
from tests.spanner import tiny


def test_only_the_leak_asks_about_what_gold_alone_has(arguments):
    path = arguments[arguments.index("--set") + 1]
    model = tiny.model()
    sentences = read_corpus(path, label_set=model.label_set).sentences
    tables = leak.candidates_by_rule(model, sentences)
    spans = {
        rule: [{(c["start"], c["end"]) for c in row} for row in table["candidates"].to_pylist()]
        for rule, table in tables.items()
    }
    gold = [{(0, 15), (20, 29)}, {(0, 5), (8, 14), (19, 27)}]
    predicted, near_misses, leaked = (spans[rule] for rule in leak.RULES)
    for row, truth in enumerate(gold):
        assert predicted[row] <= near_misses[row]
        assert leaked[row] == predicted[row] | truth
    assert leaked != predicted


def test_an_oracle_finds_with_the_leak_what_it_cannot_find_without(arguments):
    settings = {"--checkpoint", "--set", "--replay", "--json"}
    kept = []
    for flag, value in zip(arguments[::2], arguments[1::2], strict=True):
        kept += [flag, value] if flag in settings else []
    rows = leak.main(kept)["rows"]
    f1 = {(r["candidates"], r["answers"], r["threshold"]): r["f1"] for r in rows}
    local = {f1[rule, "oracle", "local"] for rule in leak.RULES}
    assert len(local) == 1  # the rule is about asking
    assert f1[leak.RULES[2], "oracle", "all asked"] == pytest.approx(1.0)
    assert f1[leak.RULES[0], "oracle", "all asked"] < 1.0
    assert {r["answers"] for r in rows} == {"oracle", "recorded LLM"}
