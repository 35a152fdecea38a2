"""Text and files as nobody would write them on purpose, the same ones for the same seed."""

import gzip
import html
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from linkner_ray.runs.units import ShardFormat
from tests.crawl import text_of, wet_record
from tests.readers.conftest import gzip_members, http_response, warc_record

ALPHABETS = {
    "combining": "aeo\u0301\u0308\u0323\u20dd\u0489 ",
    "astral": "\U0001f600\U00010348\U0001d54f\U00020000\U000103ff a",
    "nul": "\0" + "ab " * 30,
    "bidi": "a\u202e\u202b\u2066\u2069\u200f\u061c b",
    "rtl": "\u05d0\u05d1\u05bc\u0627\u0644\u0639\u0631\u0628\u064a\u0629 ",
    "crlf": "ab \r\n",
    "tabs": "ab\t\v\f ",
    "no_break": "ab\u00a0\u202f\u2007\u2060 ",
    "zwj": "\U0001f468\u200d\U0001f469\U0001f3fd\ufe0f\u20e3\U0001f1e9\U0001f1ea ",
    "private_use": "\ue000\uf8ff\U000f0000\U0010fffd a",
    "unassigned": "\u0378\u0530\U0001fbff\U000e1000\ufdd0\uffff\U0010ffff a",
    "line_separators": "ab\u2028\u2029\x85 ",
    "byte_order_mark": "\ufeffab \ufffe",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x9f" + "ab " * 500,
    "blanks": " \t\n\u3000\u2003\u1680\x1c\u205f",
    "invisible": "\u200b\u200c\u200d\u00ad\u2060\ufe0f\u180e",
    "no_spaces": "\u6771\u4eac\u3067\u3059\u3002\u0e20\u0e32\u0e29\u0e32",
    "changes_length": "\u0130\u00df\u0149\ufb03\ufdfa\u1e9e\u03a3 a",
    "jamo": "\u1112\u1161\u11ab\u3164\uffa0 ",
    "brackets": "([{<>}])\"'`.,;!? ",
    "edge_of_surrogates": "\ud7ff\ue000a " * 25 + "\ufffd",
    "arrows_of_prompts": "[[]]<|im_start|>\n###",
}
"""Characters of each kind of text; of those that no language has, few enough for it to be read."""

SHAPES: dict[str, Callable[[random.Random], str]] = {
    "empty": lambda _: "",
    "one_long_word": lambda dice: dice.choice(["a", "\u00e9", "\U0001d54f"]) * 999,
    "deep_repetition": lambda dice: dice.choice(["(", "a.", "n't", "-", "''", "1,"]) * 200,
    "one_long_line": lambda dice: " ".join(dice.choices(["Ada", "of", "U.S.", "4,5"], k=150)),
    "many_lines": lambda dice: "\n" * 5_000 + "Ada" + "\r\n" * dice.randrange(5_000),
    "a_record_inside": lambda _: wet_record("inner", "Angela Merkel").decode(),
    "json_inside": lambda _: json.dumps({"text": "a\n", "doc_id": None}) * 9,
    "sentences": lambda dice: text_of(dice.randrange(100)),
}

KINDS = (*ALPHABETS, *SHAPES)


def hostile_text(kind: str, dice: random.Random) -> str:
    """A text of a kind, now and then with names of a plain one inside it."""
    if kind in SHAPES:
        return SHAPES[kind](dice)
    pieces = ["".join(dice.choices(ALPHABETS[kind], k=dice.randint(1, 60))) for _ in range(4)]
    if kind != "blanks":
        pieces.insert(
            dice.randrange(5), dice.choice(["Angela Merkel", "Paris.", "Ada's U.S. bank"])
        )
    return "".join(pieces)


def hostile_texts(count: int, *, seed: int) -> list[str]:
    """Texts of all kinds in turn."""
    dice = random.Random(seed)
    return [hostile_text(KINDS[index % len(KINDS)], dice) for index in range(count)]


@dataclass(frozen=True)
class Packing:
    """A way to write documents as one shard."""

    file_name: str
    shard_format: ShardFormat
    pack: Callable[[dict[str, str]], bytes]
    """From texts by name."""


def doc_id_of(name: str) -> str:
    """Id of a document in every format."""
    return f"urn:test:{name}"


def _parquet(texts: dict[str, str], **settings: object) -> bytes:
    columns = {"doc_id": list(map(doc_id_of, texts)), "text": list(texts.values())}
    table = pa.table(columns, schema=pa.schema(dict.fromkeys(columns, pa.string())))
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=10, **settings)
    return sink.getvalue()


def _jsonl(texts: dict[str, str]) -> bytes:
    lines = [json.dumps({"doc_id": doc_id_of(n), "text": t}) for n, t in texts.items()]
    # Half of the lines as bytes of UTF-8, the others as escapes.
    lines[::2] = [json.dumps(json.loads(line), ensure_ascii=False) for line in lines[::2]]
    return "".join(line + "\n" for line in lines).encode()


def _wet(texts: dict[str, str]) -> list[bytes]:
    return [wet_record(name, text) for name, text in texts.items()]


def _warc(texts: dict[str, str]) -> list[bytes]:
    pages = {n: f"<html><body><p>{html.escape(t)}</p></body></html>" for n, t in texts.items()}
    return [
        warc_record(
            "response",
            http_response(page.encode(), "text/html; charset=utf-8"),
            identifier=doc_id_of(name),
            Content_Type="application/http",
        )
        for name, page in pages.items()
    ]


PACKINGS = {
    "parquet": Packing("a.parquet", "parquet", _parquet),
    "parquet_plain": Packing(
        "a.parquet",
        "parquet",
        lambda texts: _parquet(texts, compression="none", use_dictionary=False),
    ),
    "parquet_pages_2": Packing(
        "a.parquet",
        "parquet",
        lambda texts: _parquet(texts, compression="zstd", data_page_version="2.0"),
    ),
    "parquet_delta": Packing(
        "a.parquet",
        "parquet",
        lambda texts: _parquet(
            texts, use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"}
        ),
    ),
    "jsonl": Packing("a.jsonl", "jsonl", _jsonl),
    "jsonl_gz": Packing("a.jsonl.gz", "jsonl", lambda texts: gzip.compress(_jsonl(texts), mtime=0)),
    "jsonl_zst": Packing("a.jsonl.zst", "jsonl", lambda t: zstandard.compress(_jsonl(t))),
    "wet": Packing("a.warc.wet", "wet", lambda texts: b"".join(_wet(texts))),
    "wet_gz": Packing("a.warc.wet.gz", "wet", lambda texts: gzip_members(*_wet(texts))),
    "warc": Packing("a.warc", "warc", lambda texts: b"".join(_warc(texts))),
    "warc_gz": Packing("a.warc.gz", "warc", lambda texts: gzip_members(*_warc(texts))),
}


def mutate(content: bytes, dice: random.Random) -> bytes:
    """One to three kinds of damage; the ends of a file, where footers are, get more of it."""
    damaged = content
    for _ in range(dice.randint(1, 3)):
        if not damaged:
            break
        reach = min(len(damaged), 400) if dice.random() < 0.4 else len(damaged)
        place = len(damaged) - 1 - dice.randrange(reach)
        damaged = dice.choice(_DAMAGES)(damaged, place, dice)
    return damaged


def _flip_bit(content: bytes, place: int, dice: random.Random) -> bytes:
    flipped = content[place] ^ 1 << dice.randrange(8)
    return content[:place] + bytes([flipped]) + content[place + 1 :]


def _swap_halves(content: bytes, _place: int, _dice: random.Random) -> bytes:
    half = len(content) // 2
    return content[half:] + content[:half]


_DAMAGES: tuple[Callable[[bytes, int, random.Random], bytes], ...] = (
    _flip_bit,
    _swap_halves,
    lambda content, place, _: content[:place],
    lambda content, place, dice: content[:place] + dice.randbytes(1) + content[place + 1 :],
    lambda content, place, dice: (
        content[:place] + dice.randbytes(dice.randint(1, 40)) + content[place:]
    ),
    lambda content, place, dice: content[:place] + content[place + dice.randint(1, 60) :],
    lambda content, place, _: content[:place] + b"\xff" * 8 + content[place + 8 :],
)
