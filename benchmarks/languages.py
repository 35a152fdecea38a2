"""Which library tells the language of a page: right answers and processor time of each.

    python -m benchmarks.languages --pages FOLDER [--json FILE]

The pages are Parquet with columns `text` and `lang`. Each library reads whole pages, and lines of
40 to 120 characters from them. `und` is what a library itself cannot tell. Beside the two libraries
that are installed with the package, others are tried where they are there: py3langid, lingua, and
fastText's lid.176.ftz (fasttext-predict, with `--fasttext-model`). At the end: how much of the
English pages CLD2 takes for another language, which is what reading by blocks could tell apart.
"""

import argparse
import importlib.util
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pycld2
from resiliparse.parse.lang import detect_fast

from benchmarks.measure import write_json
from linkner_ray.config.languages import parse_language
from linkner_ray.readers.detect_language import REFUSED, language_of

MAX_LINES = 1_000
FASTTEXT_CHARS = 1_000
"""Of a page; more changes no answer on the crawl pages."""

Labelled = Sequence[tuple[str, str]]
"""Language and text."""


def main() -> None:
    """Read the command line, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument("--fasttext-model", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    pages = read_pages(args.pages)
    texts = {"pages": pages, "lines": lines_of(pages)}
    print("| library | texts | right | not English | English precision | recall | und | us |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    numbers: dict[str, Any] = {}
    for name, detect in detectors(args.fasttext_model):
        for kind, labelled in texts.items():
            row = measure(detect, labelled)
            numbers[f"{name} {kind}"] = row
            print(f"| {name} | {kind} | " + " | ".join(f"{v:.4g}" for v in row.values()) + " |")
    numbers["other_language_share"] = other_language_share(pages)
    print(f"in another language than the page: {numbers['other_language_share']:.2%} of the bytes")
    if args.json:
        write_json(args.json, numbers)


def read_pages(folder: Path) -> Labelled:
    """Pages with text and a label."""
    table = pq.read_table(folder, columns=["lang", "text"])
    rows = zip(table["lang"].to_pylist(), table["text"].to_pylist(), strict=True)
    return [(parse_language(lang).code, text) for lang, text in rows if lang and text]


def lines_of(pages: Labelled) -> Labelled:
    """Lines of a sentence's length, with the language of their page."""
    stripped = ((lang, line.strip()) for lang, text in pages for line in text.split("\n"))
    lines = [(lang, line) for lang, line in stripped if 40 <= len(line) <= 120]
    rng = random.Random(0)  # noqa: S311 - a sample, not a secret
    return rng.sample(lines, min(MAX_LINES, len(lines)))


def detectors(fasttext_model: Path | None) -> Iterator[tuple[str, Callable[[str], str]]]:
    """Libraries that are there, each as a function from a text to a code."""
    yield "CLD2, as readers use it", lambda text: language_of(text, None).code
    yield "Resiliparse", lambda text: parse_language(detect_fast(text)[0]).code
    if fasttext_model is not None:
        import fasttext  # type: ignore[import-not-found]

        model = fasttext.load_model(str(fasttext_model))

        def by_fasttext(text: str) -> str:
            found = model.predict(text[:FASTTEXT_CHARS].replace("\n", " "), 1, 0.0)
            return parse_language(found[0][0]).code

        yield "fastText lid.176.ftz", by_fasttext
    if importlib.util.find_spec("py3langid"):
        from py3langid import langid  # type: ignore[import-not-found]

        yield "py3langid", lambda text: parse_language(langid.classify(text)[0]).code
    if importlib.util.find_spec("lingua"):
        from lingua import LanguageDetectorBuilder  # type: ignore[import-not-found]

        lingua = LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()

        def by_lingua(text: str) -> str:
            found = lingua.detect_language_of(text)
            return "und" if found is None else parse_language(found.iso_code_639_1.name).code

        yield "lingua, low accuracy", by_lingua


def measure(detect: Callable[[str], str], labelled: Labelled) -> dict[str, float]:
    """Right answers as shares, and processor microseconds for each text."""
    detect(labelled[0][1])  # loads its model
    started = time.process_time()
    found = [detect(text) for _, text in labelled]
    seconds = time.process_time() - started
    num_english = sum(lang == "en" for lang, _ in labelled)
    right = [lang for (lang, _), code in zip(labelled, found, strict=True) if lang == code]
    right_english = right.count("en")
    return {
        "right": len(right) / len(labelled),
        "right_not_english": (len(right) - right_english) / (len(labelled) - num_english),
        "english_precision": right_english / max(found.count("en"), 1),
        "english_recall": right_english / num_english,
        "und": found.count("und"),
        "us": seconds / len(labelled) * 1e6,
    }


def other_language_share(pages: Labelled) -> float:
    """Share of the bytes of English pages that CLD2 puts into blocks of another language."""
    other = total = 0
    for lang, text in pages:
        if lang != "en":
            continue
        clean = REFUSED.sub(" ", text)
        for _, num_bytes, _, code in pycld2.detect(clean, isPlainText=True, returnVectors=True)[3]:
            total += num_bytes
            other += num_bytes * (code not in ("en", "un"))
    return other / total


if __name__ == "__main__":
    main()
