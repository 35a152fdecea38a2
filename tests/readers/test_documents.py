import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.config import InputConfig
from linkner_ray.readers.documents import PLACE, Checks, check_documents
from linkner_ray.readers.no_language import find_no_language

CONFIG = InputConfig(paths=("p",), max_document_chars=5)
CHECKS = Checks(path="p", config=CONFIG, errors_raw_chars=10)
rows = st.lists(
    st.one_of(st.none(), st.binary(max_size=8), st.text(max_size=8).map(str.encode)), max_size=12
)


def is_utf8(value):
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(rows)
def test_each_row_ends_as_document_or_quarantined(texts):
    column = pa.array(texts, pa.binary()).view(pa.string())
    empty = pa.nulls(len(texts), pa.string())
    records = range(100, 100 + len(texts))
    columns = {"doc_id": empty, "url": empty, "lang": empty, "text": column}
    record, byte_offset = (field.name for field in PLACE)
    places = {record: pa.array(records), byte_offset: pa.nulls(len(texts), pa.int64())}
    checked = check_documents(pa.table(columns | places), checks=CHECKS)
    expected = {}
    for record, text in zip(records, texts, strict=True):
        if text is None:
            expected[record] = "null_text"
        elif not is_utf8(text):
            expected[record] = "invalid_utf8"
        elif len(text.decode()) > 5:
            expected[record] = "too_long"
    assert {row.record: row.reason for row in checked.quarantined} == expected
    valid = {
        f"p:{record}": text.decode()
        for record, text in zip(records, texts, strict=True)
        if record not in expected
    }
    kept = {name: text for name, text in valid.items() if find_no_language(text) is None}
    found = checked.documents.select(["doc_id", "text"]).to_pylist()
    assert {row["doc_id"]: row["text"] for row in found} == kept
    assert checked.skipped.total() == len(valid) - len(kept)


def test_raw_is_cut_and_printable():
    assert CHECKS.raw("a\nb\ud800") == "a\\nb\\ud800"
    assert CHECKS.raw(b"ok\xff") == "ok\\xff"
    assert CHECKS.raw("x" * 100) == "x" * 10
