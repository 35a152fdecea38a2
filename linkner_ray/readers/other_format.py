"""What a shard is that is not of the format that its name or `input.format` says."""

import json
import re

from linkner_ray.runs.units import ShardFormat

HEAD_BYTES = 1 << 16
"""Bytes of a shard that are looked at."""

_SIGNS: tuple[tuple[bytes, ShardFormat | None, str], ...] = (
    (rb"PAR1", "parquet", "Parquet; let its name end in .parquet, or set input.format=parquet"),
    (rb"WARC/\d", "warc", "WARC; let its name end in .warc or .warc.gz, or set input.format=warc"),
    (rb"\[\s*\{", None, "a JSON array; write one object a line: jq -c '.[]' OLD > NEW.jsonl"),
    (
        rb"\{[ \t\r]*\n",
        None,
        "JSON over several lines; write one object a line: jq -c . OLD > NEW.jsonl",
    ),
    (
        rb"\{",
        "jsonl",
        "JSON Lines; let its name end in .jsonl or .jsonl.gz, or set input.format=jsonl",
    ),
    (rb"<", None, "HTML or XML, such as the error page of a store; fetch it again"),
    (rb"\xff\xfe|\xfe\xff", None, "text in UTF-16; iconv -f utf-16 -t utf-8"),
    (rb"\x1f\x8b|\x28\xb5\x2f\xfd", None, "compressed twice; unpack it once"),
    (rb"BZh|\xfd7zXZ", None, "bzip2 or xz; pack it with gzip or zstd"),
    (rb"PK\x03\x04", None, "a zip archive; unpack it"),
    (rb"ARROW1|Obj\x01", None, "Arrow or Avro; write it as Parquet"),
)
"""How a file begins, its format if it is one that is read, and what it is and what to do."""


def name_format(head: bytes) -> tuple[ShardFormat | None, str] | None:
    """What a file is by its first bytes, uncompressed: its format, and a line for the user.

    None where they do not say. The format is None for what is not read.
    """
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for sign, shard_format, meaning in _SIGNS:
        if re.match(sign, head):
            return shard_format, meaning
    return None


def find_other_format(head: bytes, wanted: ShardFormat) -> str | None:
    """What a shard is if not of its format, and what to do; None where it may well be of it.

    Bad lines or bytes in front of what is of its format cost the shard nothing else.

    Args:
        head: Its first bytes, uncompressed.
        wanted: By its name or `input.format`.
    """
    wanted = "warc" if wanted == "wet" else wanted
    found = name_format(head)
    if found is None or found[0] == wanted:
        return None
    lines = [line for line in head.split(b"\n") if line.strip()]
    if wanted == "jsonl" and 2 * sum(map(_is_object, lines)) >= len(lines):
        return None
    if wanted == "warc" and re.search(rb"\nWARC/\d", head):
        return None
    return f"is {found[1]}"


def _is_object(line: bytes) -> bool:
    """Whether a line is a JSON object; one that is cut off at the end of the head may be one."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return line.startswith(b'{"') and not line.rstrip().endswith((b"}", b","))
