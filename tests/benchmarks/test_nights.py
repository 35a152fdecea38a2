import json

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import nights
from tests.crawl import text_of, write_checkpoint


def test_the_second_night_asks_only_about_new_pages(tmp_path, capsys):
    (tmp_path / "crawl").mkdir()
    texts = [f"{text_of(index)} Number{index} Street." for index in range(40)]
    table = pa.table({"doc_id": [str(i) for i in range(40)], "text": texts})
    pq.write_table(table, tmp_path / "crawl" / "pages.parquet")
    checkpoint = str(write_checkpoint(tmp_path / "checkpoint"))
    numbers = nights.main(
        [
            *("--checkpoint", checkpoint, "--crawl", str(tmp_path / "crawl")),
            *("--threshold", "0", "--threads", "1", "--json", str(tmp_path / "numbers.json")),
        ]
    )
    assert (numbers["pages"], numbers["pages_shared"]) == (40, 32)
    # Four of 36 pages are new, and each page is much like every other.
    assert 0 < numbers["questions_second"] < numbers["questions_first"] / 4
    assert numbers["uncertain_spans_second"] > 5 * numbers["questions_second"]
    assert json.loads((tmp_path / "numbers.json").read_text()) == numbers
    assert "32 of them in both nights" in capsys.readouterr().out
