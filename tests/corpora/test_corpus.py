import re
from pathlib import Path

import fsspec
import pytest

from linkner_ray.corpora.corpus import find_format, read_corpus
from linkner_ray.corpora.labelled import unreachable_spans
from linkner_ray.errors import DataError
from linkner_ray.labels import load_label_set


@pytest.mark.parametrize(
    ("name", "format_found", "num_sentences", "num_entities"),
    [
        ("iob1_four_columns.conll", "conll", 2, 4),
        ("iob2_tabs.conll", "conll", 3, 4),
        ("iobes.conll", "conll", 2, 3),
        ("spanner.json", "spanner_json", 2, 3),
    ],
)
def test_the_format_is_found_from_the_file(
    data, conll03, name, format_found, num_sentences, num_entities
):
    corpus = read_corpus(data / name, label_set=conll03)
    assert corpus.path == str(data / name)
    assert corpus.format == format_found
    assert (len(corpus.sentences), corpus.num_entities) == (num_sentences, num_entities)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"context": "a"}]', "spanner_json"),
        (b'\xef\xbb\xbf \r\n [\n  {"context"', "spanner_json"),
        (b"[ ]", "spanner_json"),
        (b"[\tO\n{\tO\n", "conll"),
        (b"[ O\n", "conll"),
        (b"", "conll"),
    ],
)
def test_only_a_list_of_objects_is_json(content, expected):
    assert find_format(content) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"tokenized_text": ["Ada"], "ner": [[0, 0, "PER"]]}]', "is the JSON of GLiNER"),
        ('{"id": 1, "text": "Ada", "label": [[0, 3, "PER"]]}\n', "as doccano writes it"),
        ('[\n  {\n    "text": "Ada",\n    "entities": []\n  }\n]', "as spaCy has it"),
        ('\ufeff{"words": ["Ada"], "tags": ["B-PER"]}', "is JSON (keys 'words', 'tags')"),
    ],
)
def test_the_json_of_other_tools_is_named(tmp_path, conll03, content, expected):
    path = tmp_path / "corpus.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(expected) + ".*token, tab and tag"):
        read_corpus(path, label_set=conll03)


def test_tokens_that_look_like_json_are_read_as_columns(tmp_path, conll03):
    path = tmp_path / "corpus.conll"
    path.write_text("{ O\n} O\n\n[ O\n{} O\n")
    assert len(read_corpus(path, label_set=conll03).sentences) == 2


def test_a_format_that_is_given_is_not_guessed(data, conll03):
    with pytest.raises(DataError, match=r"spanner\.json:1: expected a token and a tag"):
        read_corpus(data / "spanner.json", label_set=conll03, format="conll")
    with pytest.raises(DataError, match=r"iobes\.conll: entry 0: JSON is broken"):
        read_corpus(data / "iobes.conll", label_set=conll03, format="spanner_json")


def test_what_was_passed_over_is_told(tmp_path, conll03, caplog):
    path = tmp_path / "a.conll"
    path.write_text("-DOCSTART- O\n\n# id 1\nAda B-PER\nLee I-ORG\n")
    with caplog.at_level("INFO", logger="linkner_ray"):
        read_corpus(path, label_set=conll03)
    assert caplog.messages == [
        f"{path}: 1 document marker passed over, 1 comment line passed over, 1 entity opened by a "
        "tag for its inside"
    ]


def test_a_url_is_read_like_a_path(data, conll03):
    url = "memory://read_corpus/train.json"
    fsspec.filesystem("memory").pipe(url, (data / "spanner.json").read_bytes())
    remote = read_corpus(url, label_set=conll03)
    assert remote.sentences == read_corpus(data / "spanner.json", label_set=conll03).sentences
    fsspec.filesystem("memory").rm("/read_corpus", recursive=True)


@pytest.mark.parametrize("content", ["", "\n\t\n", "-DOCSTART- O\n\n", "[]"])
def test_a_corpus_without_sentences_is_refused(tmp_path, conll03, content):
    path = tmp_path / "empty"
    path.write_text(content)
    with pytest.raises(DataError, match="empty: the corpus holds no sentence"):
        read_corpus(path, label_set=conll03)


@pytest.mark.external
@pytest.mark.parametrize(
    ("name", "label_set", "num_sentences", "num_entities"),
    [
        ("conll03/spanner.train", "conll03", 14_041, 23_499),
        ("conll03/spanner.dev", "conll03", 3_250, 5_942),
        ("conll03/spanner.test", "conll03", 3_453, 5_648),
        ("conll03/oov/spanner.test", "conll03", 3_453, 5_648),
        # entities of the tagged corpora: as many as there are B- tags, counted with grep
        ("wnut17/wnut17train.conll", "wnut17", 3_394, 1_975),
        ("wnut17/emerging.dev.conll", "wnut17", 1_009, 836),
        ("wnut17/emerging.test.annotated", "wnut17", 1_287, 1_079),
        ("crossner/ai/train.txt", "crossner_ai", 100, 532),
        ("crossner/ai/test.txt", "crossner_ai", 431, 1_809),
        ("crossner/science/train.txt", "crossner_science", 200, 1_075),
        ("crossner/science/test.txt", "crossner_science", 543, 3_089),
    ],
)
def test_the_published_corpora_have_their_published_size(
    linkner_data, name, label_set, num_sentences, num_entities
):
    labels = load_label_set(label_set)
    corpus = read_corpus(linkner_data / name, label_set=labels)
    used = {span.label for sentence in corpus.sentences for span in sentence.spans}
    assert (len(corpus.sentences), corpus.num_entities) == (num_sentences, num_entities)
    assert used <= set(labels.ids)
    assert corpus.opened_by_inside == 0


@pytest.mark.external
def test_one_entity_of_wnut17_is_wider_than_any_of_conll03(linkner_data):
    wnut17 = load_label_set("wnut17")
    path: Path = linkner_data / "wnut17" / "emerging.test.annotated"
    sentences = read_corpus(path, label_set=wnut17).sentences
    assert (unreachable_spans(sentences, 24), unreachable_spans(sentences, 25)) == (1, 0)
