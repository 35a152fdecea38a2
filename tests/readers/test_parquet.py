from collections import deque
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkner_ray.config import InputConfig
from linkner_ray.errors import ConfigError
from linkner_ray.readers import check_sources, count_units, read_units
from linkner_ray.readers.parquet import _Rows
from linkner_ray.readers.row_ranges import plan_row_ranges
from linkner_ray.runs.units import Source
from linkner_ray.schemas import DOCUMENTS


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 12))
def test_row_ranges_cover_each_row_once_and_in_order(row_group_rows, unit_documents):
    units = plan_row_ranges(row_group_rows, unit_documents)
    parts = [part for unit in units for part in unit]
    covered = [row for p in parts for row in range(p.first_row, p.first_row + p.num_rows)]
    assert covered == list(range(sum(row_group_rows)))
    owners = [group for group, rows in enumerate(row_group_rows) for _ in range(rows)]
    assert [p.group for p in parts for _ in range(p.num_rows)] == owners
    assert all(0 < sum(p.num_rows for p in unit) <= unit_documents for unit in units if unit)
    assert len(units) == 1 or all(units)


def test_small_row_groups_share_a_unit_and_a_large_one_is_sliced():
    # 2 + 2 fit in 5, 3 more would not; 12 = 5 + 5 + 2; the last group does not join a slice
    units = plan_row_ranges([2, 2, 3, 12, 1], 5)
    found = [[(p.group, p.first_row, p.num_rows) for p in unit] for unit in units]
    assert found == [
        [(0, 0, 2), (1, 2, 2)],
        [(2, 4, 3)],
        [(3, 7, 5)],
        [(3, 12, 5)],
        [(3, 17, 2)],
        [(4, 19, 1)],
    ]


def write(path, columns, **options):
    if isinstance(columns, list):
        names, columns = zip(*columns, strict=True)
        table = pa.Table.from_arrays([pa.array(column) for column in columns], names=names)
    else:
        table = pa.table(columns)
    pq.write_table(table, path, **options)
    return path


def numbered(count):
    return {"doc_id": [f"d{i}" for i in range(count)], "text": [f"text {i}" for i in range(count)]}


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 30), max_size=20),
    row_group_size=st.integers(1, 25),
    unit_documents=st.integers(1, 9),
    unit_chars=st.sampled_from([1, 25, 60, 10_000]),
    data=st.data(),
)
def test_units_depend_on_the_shard_alone(
    tmp_path_factory, sizes, row_group_size, unit_documents, unit_chars, data
):
    path = tmp_path_factory.mktemp("p") / "a.parquet"
    write(
        path,
        {"text": pa.array(["x" * n for n in sizes], pa.string())},
        row_group_size=row_group_size,
    )
    source = Source(path=str(path), format="parquet", size=0, version="1")
    config = InputConfig(paths=("x",), unit_documents=unit_documents, unit_chars=unit_chars)

    def units(done):
        return list(read_units(source, config=config, errors_raw_chars=9, done=done))

    whole = units({})
    firsts = [unit.first_record for unit in whole]
    assert firsts == [0, *accumulate(unit.num_records for unit in whole)][:-1]
    assert [unit.is_last for unit in whole] == [False] * (len(whole) - 1) + [True]
    assert [row for unit in whole for row in unit.documents["text"].to_pylist()] == [
        "x" * n for n in sizes
    ]
    for unit in whole:
        assert unit.num_records <= unit_documents
        *before_last, _ = sizes[unit.first_record :][: unit.num_records] or [0]
        assert sum(before_last) < unit_chars
    assert len(whole) >= count_units(source, config)
    done = data.draw(st.sets(st.sampled_from(range(len(whole)))))
    kept = [unit for index, unit in enumerate(whole) if index not in done]
    assert units({whole[i].first_record: whole[i].num_records for i in done}) == kept


@pytest.mark.parametrize("varies", [True, False], ids=["plain", "dictionary"])
def test_pages_of_megabytes_make_units_of_few(tmp_path, read, varies):
    texts = [f"{'page ' * 40_000}{i * varies}" for i in range(40)]  # 0.2 MB each
    path = write(tmp_path / "a.parquet", {"text": texts}, compression="zstd")
    shard = read(path, "parquet", unit_chars=600_000)
    assert [unit.num_records for unit in shard.units] == [3] * 13 + [1]
    assert shard.texts == texts


def test_units_that_are_done_are_not_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", numbered(20), row_group_size=5)
    read = []
    monkeypatch.setattr(_Rows, "take", lambda _, part: read.append(part.first_row) or ())
    source = Source(path=str(path), format="parquet", size=0, version="1")
    config = InputConfig(paths=("x",), unit_documents=5)
    # The first is done in two parts, of the third the second part is missing
    done = {0: 3, 3: 2, 5: 5, 10: 3}
    deque(read_units(source, config=config, errors_raw_chars=9, done=done), maxlen=0)
    assert read == [10, 15]


def test_null_and_long_texts_are_quarantined_and_empty_ones_are_documents(tmp_path, read):
    path = write(tmp_path / "a.parquet", {"text": ["", None, "12345", "123456\n789"]})
    shard = read(path, "parquet", max_document_chars=5, raw_chars=8)
    assert shard.texts == ["", "12345"]
    assert shard.reasons == [(1, "null_text"), (3, "too_long")]
    assert [row["num_chars"] for row in shard.quarantine] == [0, 10]
    assert shard.quarantine[1]["raw"] == "123456\\n"
    assert [row["doc_id"] for row in shard.documents] == [f"{path}:0", f"{path}:2"]


def test_invalid_utf8_is_quarantined_and_its_neighbours_stay(tmp_path, read):
    texts = pa.array([b"good", b"b\xffd", b"fine \xc3\xa9"], pa.binary()).view(pa.string())
    path = write(tmp_path / "a.parquet", {"doc_id": ["a", None, None], "text": texts})
    shard = read(path, "parquet")
    assert [(d["doc_id"], d["text"]) for d in shard.documents] == [
        ("a", "good"),
        (f"{path}:2", "fine \u00e9"),
    ]
    assert shard.reasons == [(1, "invalid_utf8")]
    assert shard.quarantine[0]["raw"] == "b\\xffd"
    assert shard.quarantine[0]["num_chars"] == 3


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_every_kind_of_string_is_text(tmp_path, read, kind):
    texts = pa.array(["a", "\u00e9", "a"]).cast(kind)
    path = write(tmp_path / "a.parquet", {"doc_id": [7, 8, 9], "text": texts})
    shard = read(path, "parquet")
    assert [(d["doc_id"], d["text"]) for d in shard.documents] == [
        ("7", "a"),
        ("8", "\u00e9"),
        ("9", "a"),
    ]


def test_other_column_names_are_read(tmp_path, read):
    columns = {"body": ["b"], "key": ["k"], "link": ["u"], "language": ["de"], "text": [1]}
    path = write(tmp_path / "a.parquet", columns)
    names = {"text_column": "body", "id_column": "key", "url_column": "link"}
    shard = read(path, "parquet", lang_column="language", **names)
    assert shard.documents == [{"doc_id": "k", "url": "u", "lang": "de", "text": "b"}]


@pytest.mark.parametrize(
    ("columns", "reason", "detail"),
    [
        ({"txt": ["a"]}, "missing_column", "nearest is 'txt'; set input.text_column"),
        ({"text": [1], "body": ["a"]}, "wrong_type", r"int64, columns of strings: \['body'\]"),
        ({"text": ["a"], "url": [[1]]}, "wrong_type", r"'url' has type list.*set input.url_column"),
        ([("text", ["a"]), ("text", ["b"])], "duplicate_column", "'text' is there 2 times; rename"),
        (
            [("text", ["a"]), ("url", ["b"]), ("url", ["c"])],
            "duplicate_column",
            "'url' is there 2 times; rename all but one, or set input.url_column",
        ),
    ],
)
def test_columns_that_do_not_fit(tmp_path, read, columns, reason, detail):
    path = write(tmp_path / "a.parquet", columns)
    shard = read(path, "parquet")
    assert shard.reasons == [(None, reason)]
    source = Source(path=str(path), format="parquet", size=0, version="1")
    with pytest.raises(ConfigError, match=detail):
        check_sources([source], InputConfig(paths=(str(path),)))


def test_columns_that_are_not_read_may_have_one_name(tmp_path, read):
    path = write(tmp_path / "a.parquet", [("x", [1]), ("text", ["a"]), ("x", ["b"])])
    assert read(path, "parquet").texts == ["a"]


@pytest.mark.parametrize(
    ("folder", "columns", "lang"),
    [
        ("lang=de", {"text": ["a"]}, "de"),
        ("year=2024/lang=zh%2DHans/doc_id=5", {"text": ["a"]}, "zh-Hans"),
        ("lang=__HIVE_DEFAULT_PARTITION__", {"text": ["a"]}, None),
        ("lang=de", {"text": ["a"], "lang": ["fr"]}, "fr"),
        ("language=de", {"text": ["a"]}, "de"),
        ("language=de", {"text": ["a"], "lang": ["fr"], "language": ["it"]}, "fr"),
        ("a", {"text": ["a"], "language": [[1]], "language_code": ["it"]}, "it"),
        ("lang=", {"text": ["a"]}, None),
    ],
)
def test_a_column_may_be_in_the_name_of_a_folder(tmp_path, read, folder, columns, lang):
    (tmp_path / folder).mkdir(parents=True)
    path = write(tmp_path / folder / "part-0.parquet", columns)
    [row] = read(path, "parquet").documents
    assert (row["lang"], row["doc_id"]) == (lang, f"{path}:0")


@pytest.mark.parametrize("content", [b"", b"no parquet at all", None], ids=["empty", "text", "cut"])
def test_an_unreadable_file_is_one_quarantined_unit(tmp_path, read, content):
    path = write(tmp_path / "a.parquet", numbered(5))
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    shard = read(path, "parquet")
    assert shard.reasons == [(None, "unreadable_file")]
    assert read(path, "parquet", done={0: 5}).units == []
    source = Source(path=str(path), format="parquet", size=0, version="1")
    check_sources([source], InputConfig(paths=(str(path),)))


SCORED = {
    "doc_id": [f"d{i}" for i in range(12)],
    "text": [f"text {i}" for i in range(12)],
    "score": [i / 10 for i in range(12)],
    "host": ["a.org", "b.org", None] * 4,
    "tags": [[i] for i in range(12)],
    "record": ["r"] * 12,
}


@pytest.mark.parametrize(
    ("conditions", "passing"),
    [
        ([["score", ">=", 0.8]], [8, 9, 10, 11]),
        ([["score", ">=", 0.8], ["host", "in", ["a.org"]]], [9]),
        ([[["score", "<", 0.1]], [["score", ">", 1.0]]], [0, 11]),
        ([["host", "!=", "a.org"]], [1, 4, 7, 10]),  # null passes no condition
        ([["score", ">", 9]], []),
    ],
)
def test_a_filter_says_which_rows_are_read(tmp_path, read, conditions, passing):
    path = write(tmp_path / "a.parquet", SCORED, row_group_size=3)
    shard = read(path, "parquet", filter=conditions, unit_documents=6)
    assert shard.texts == [f"text {i}" for i in passing]
    assert shard.skipped == {"filter": 12 - len(passing)}
    assert [unit.num_records for unit in shard.units] == [6, 6]
    one_at_a_time = read(path, "parquet", filter=conditions, unit_documents=1)
    assert one_at_a_time.texts == shard.texts
    rest = read(path, "parquet", filter=conditions, unit_documents=6, done={0: 6})
    assert rest.units == shard.units[1:]


def test_row_groups_without_a_row_that_passes_are_not_read(tmp_path, read):
    path = write(tmp_path / "a.parquet", SCORED, row_group_size=3, compression="zstd")
    content = bytearray(path.read_bytes())
    for index in range(5):  # what is read of row group 2 is a fault
        column = pq.read_metadata(path).row_group(2).column(index)
        begin = column.dictionary_page_offset or column.data_page_offset
        content[begin : begin + column.total_compressed_size] = (
            b"\xff" * column.total_compressed_size
        )
    path.write_bytes(content)
    shard = read(path, "parquet", filter=[["score", "<", 0.6]])
    assert shard.texts == [f"text {i}" for i in range(6)]
    assert (shard.quarantine, shard.skipped) == ([], {"filter": 6})


def test_columns_are_carried_along_with_their_types(tmp_path, read):
    path = write(tmp_path / "a.parquet", SCORED, row_group_size=4)
    shard = read(path, "parquet", columns=["tags", "record"], filter=[["score", ">", 1]])
    assert [(row["doc_id"], row["tags"], row["record"]) for row in shard.documents] == [
        ("d11", [11], "r")
    ]
    [unit] = read(path, "parquet", columns=["tags", "host"], filter=[["score", ">", 9]]).units
    assert unit.documents.schema.names == [*DOCUMENTS.names, "tags", "host"]
    assert unit.documents.schema.field("tags").type == pa.list_(pa.int64())


@pytest.mark.parametrize(
    ("settings", "reason", "detail"),
    [
        ({"filter": [["scor", ">", 1]]}, "missing_column", "nearest is 'score'; set input.filter"),
        ({"columns": ["hosts"]}, "missing_column", "nearest is 'host'; set input.columns"),
        ({"filter": [["score", ">", "a"]]}, "wrong_type", "'score' is double.*set input.filter"),
        ({"filter": [["tags", ">", 1]]}, "wrong_type", "'tags' is list.*set input.filter"),
        ({"filter": [["host", "in", ["a", False]]]}, "wrong_type", "'host' is string.*set"),
    ],
)
def test_filters_and_columns_that_do_not_fit(tmp_path, read, settings, reason, detail):
    path = write(tmp_path / "a.parquet", SCORED)
    assert read(path, "parquet", **settings).reasons == [(None, reason)]
    source = Source(path=str(path), format="parquet", size=0, version="1")
    with pytest.raises(ConfigError, match=detail):
        check_sources([source], InputConfig(paths=(str(path),), **settings))


def test_documents_in_other_languages_are_skipped_and_counted(tmp_path, read):
    codes = ["eng_Latn", "deu_Latn", "en", "zho_Hant", None, "de"]
    texts = [*"abcd", "The committee will meet again to discuss the results of the election.", "f"]
    path = write(tmp_path / "a.parquet", {"text": texts, "language": codes})
    shard = read(path, "parquet", languages=["en"])
    assert shard.texts == [texts[0], texts[2], texts[4]]
    assert [row["lang"] for row in shard.documents] == ["eng_Latn", "en", None]
    assert shard.skipped == {"language_de": 2, "language_zh": 1}
    assert read(path, "parquet").texts == texts
