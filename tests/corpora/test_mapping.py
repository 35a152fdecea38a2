"""A corpus under a label map: renamed, dropped, nothing else."""

from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.mapping import map_labels
from linkner_ray.labels import load_label_map

CORPUS = (
    "Ada B-researcher\nwon O\nthe O\nTuring B-misc\nAward I-misc\nfor O\nparsing B-task\n. O\n\n"
    "ACL B-conference\n\n"
)


def test_labels_are_renamed_or_leave_gold(tmp_path):
    path = tmp_path / "set.conll"
    path.write_text(CORPUS)
    label_map = load_label_map("crossner_ai_to_conll03")
    mapped = map_labels(read_corpus(path, label_set=label_map.source), label_map)
    found = [
        [(span.start_token, span.end_token, span.label) for span in sentence.spans]
        for sentence in mapped.corpus.sentences
    ]
    assert found == [[(0, 1, "PER"), (3, 5, "MISC")], [(0, 1, "MISC")]]
    assert mapped.renamed == {
        ("researcher", "PER"): 1,
        ("misc", "MISC"): 1,
        ("conference", "MISC"): 1,
    }
    assert mapped.dropped == {"task": 1}
    # Tokens stay; a sentence whose entities are all dropped stays too.
    assert [len(one.tokens) for one in mapped.corpus.sentences] == [8, 1]
