"""Corpora of the library `datasets`: rows of tokens and tags, in files and folders as it writes."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkner_ray.corpora.corpus import find_format, read_corpus
from linkner_ray.errors import ConfigError, DataError

ROWS = [
    {"id": "0", "tokens": ["Ada", "Lovelace", "met", "Siemens"], "ner_tags": [1, 2, 0, 3]},
    {"id": "1", "tokens": [], "ner_tags": []},
    {"id": "2", "tokens": ["-DOCSTART-"], "ner_tags": [0]},
    {"id": "3", "tokens": ["Paris"], "ner_tags": [4]},
]
NAMES = ["O", "B-PER", "I-PER", "B-ORG", "B-LOC"]
NAMED = [{**row, "ner_tags": [NAMES[tag] for tag in row["ner_tags"]]} for row in ROWS]
FOUND = [
    (("Ada", "Lovelace", "met", "Siemens"), [(0, 2, "PER"), (3, 4, "ORG")]),
    (("Paris",), [(0, 1, "LOC")]),
]

FEATURE = {"names": NAMES, "_type": "ClassLabel"}


def table(feature=None):
    """As `datasets` 4 writes it; `feature` as an older one does."""
    tags = feature or {"feature": FEATURE, "_type": "List"}
    info = json.dumps({"info": {"features": {"ner_tags": tags}}})
    return pa.Table.from_pylist(ROWS).replace_schema_metadata({"huggingface": info})


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def save_to_disk(folder, *files):
    """What `Dataset.save_to_disk` leaves, with a file of a cache beside it."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05d}-of-{len(files):05d}.arrow" for n in range(len(files))]
    for name, content in zip([*names, "cache-1.arrow"], [*files, files[0]], strict=True):
        with (
            pa.OSFile(str(folder / name), "wb") as file,
            pa.ipc.new_stream(file, content.schema) as writer,
        ):
            writer.write_table(content)
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def sentences_of(corpus):
    return [
        (one.tokens, [(s.start_token, s.end_token, s.label) for s in one.spans])
        for one in corpus.sentences
    ]


def write_parquet(path, content):
    path.parent.mkdir(exist_ok=True)
    pq.write_table(content, path)
    return path


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_jsonl(folder / "a.jsonl", NAMED),
        lambda folder: write_parquet(folder / "a.parquet", table()),
        lambda folder: write_parquet(folder / "a", table([FEATURE])),
        lambda folder: save_to_disk(folder / "test", table()),
        lambda folder: write_parquet(folder / "data/test-0.parquet", table()).parent,
    ],
    ids=["jsonl", "parquet", "names_of_an_old_release", "save_to_disk", "shards"],
)
def test_rows_are_read_from_files_and_folders(write, tmp_path, conll03):
    path = write(tmp_path)
    corpus = read_corpus(path, label_set=conll03)
    assert (corpus.path, corpus.format, corpus.scheme) == (str(path), "hugging_face", "iob2")
    assert sentences_of(corpus) == FOUND
    assert (corpus.num_empty_entries, corpus.num_document_markers) == (1, 1)


def test_the_files_of_a_folder_are_one_corpus(tmp_path, conll03):
    folder = save_to_disk(tmp_path / "test", table().slice(0, 3), table().slice(3))
    assert sentences_of(read_corpus(folder, label_set=conll03)) == FOUND


def test_a_folder_of_several_splits_is_refused_with_what_to_name(tmp_path, conll03):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(ConfigError, match=r"holds the splits train, test; name one: .*/test"):
        read_corpus(tmp_path, label_set=conll03)
    for name in ("train-0.parquet", "test-0.parquet"):
        write_parquet(tmp_path / "data" / name, table())
    with pytest.raises(ConfigError, match=r"holds test-0.parquet, train-0.parquet; name one of"):
        read_corpus(tmp_path / "data", label_set=conll03)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"a folder without \.parquet, \.arrow or \.jsonl"):
        read_corpus(tmp_path / "empty", label_set=conll03)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x", "label": []}, r"a\.jsonl:1: .* found text, label; rename or make tokens"),
        ({"tokens": ["x"], "tags": ["O"]}, r":1: .* found tokens, tags; rename or make ner_tags"),
        ({"tokens": ["x"], "ner_tags": [3]}, r"row 0: tag 3 is a number without a name; write"),
        ({"tokens": ["x", "y"], "ner_tags": ["O"]}, r"row 0: expected .* as many ner_tags"),
        ({"tokens": "x", "ner_tags": ["O"]}, r"row 0: expected a list of tokens"),
        ({"tokens": [" "], "ner_tags": ["O"]}, r"row 0: expected words, found ' '"),
        ({"tokens": ["\ud800"], "ner_tags": ["O"]}, r"row 0: a token has half of a surrogate"),
        ({"tokens": ["x"], "ner_tags": ["PER"]}, r"row 0: tag 'PER' is neither O nor one of"),
        ({"tokens": ["x"], "ner_tags": ["B-XY"]}, r"row 0: label 'XY' is not in label set"),
    ],
)
def test_a_wrong_row_is_named_with_what_is_wrong(row, message, tmp_path, conll03):
    path = write_jsonl(tmp_path / "a.jsonl", [row])
    with pytest.raises(DataError, match=message):
        read_corpus(path, label_set=conll03, format="hugging_face")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"tokens": []}\n{"tokens": \n', r"a:1: .* make ner_tags"),
        (b'{"tokens": [], "ner_tags": []}\n{\n', r"a:2: JSON is broken"),
        (b'{"tokens": [], "ner_tags": []}\n3\n', r"a:2: expected an object, found 3"),
        (b"PAR1 and no more", r"a: cannot be read"),
        (b"\xff\xff\xff\xff and no more", r"a: cannot be read"),
    ],
)
def test_a_broken_file_is_told(content, message, tmp_path, conll03):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_corpus(tmp_path / "a", label_set=conll03, format="hugging_face")


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_damaged_bytes_in_the_middle_are_told(suffix, tmp_path, conll03):
    """Arrow raises an OSError for them, as a disk would."""
    path = tmp_path / f"a.{suffix}"
    content = pa.Table.from_pylist(NAMED)
    if suffix == "parquet":
        pq.write_table(content, path)
    else:
        with pa.ipc.new_stream(path, content.schema) as writer:
            writer.write_table(content)
    damaged = bytearray(path.read_bytes())
    damaged[10:50] = b"\xff" * 40
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=rf"a.{suffix}: cannot be read"):
        read_corpus(path, label_set=conll03)


@pytest.mark.parametrize(
    "metadata",
    ["{", "[]", '{"info": null}', '{"info": {"features": {"ner_tags": []}}}',
     '{"info": {"features": {"ner_tags": {"feature": {"names": null}}}}}'],
)  # fmt: skip
def test_metadata_that_datasets_did_not_write_names_no_tags(metadata, tmp_path, conll03):
    named = pa.Table.from_pylist(NAMED).replace_schema_metadata({"huggingface": metadata})
    path = write_parquet(tmp_path / "a.parquet", named)
    assert sentences_of(read_corpus(path, label_set=conll03)) == FOUND
    numbered = pa.Table.from_pylist(ROWS).replace_schema_metadata({"huggingface": metadata})
    with pytest.raises(DataError, match="tag 1 is a number without a name"):
        read_corpus(write_parquet(path, numbered), label_set=conll03)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", "{"),
        ("state.json", "{}"),
        ("state.json", '{"_data_files": [{}]}'),
        ("dataset_dict.json", "[]"),
        ("dataset_dict.json", '{"splits": []}'),
    ],
)
def test_a_list_of_files_that_datasets_did_not_write_is_named(name, content, tmp_path, conll03):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=rf"{name} is not as `datasets` writes it"):
        read_corpus(tmp_path, label_set=conll03)


@pytest.mark.parametrize("line", ["{\tO", "{ O", '{"a\tB-PER'])
def test_a_brace_as_a_token_is_still_a_corpus_in_columns(line):
    assert find_format(f"{line}\n".encode()) == "conll"
