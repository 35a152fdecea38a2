"""How much of the bare encoder's speed does the recognise stage keep?

    python -m benchmarks.recognize --data dev.json --checkpoint models/conll03 --json numbers.json
    python -m benchmarks.recognize --pages crawl/ --documents 10 --checkpoint models/conll03

Same words, machine, encoder and process. With `--pages` documents of Parquet files are read instead
of a corpus, the first `--documents` of them; `--host` keeps those of one host, which repeat their
menus. A ratio is the median over rounds; in each round the ways run one after the other.
"""

import argparse
import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from unittest import mock
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.measure import (
    Timings,
    interleaved,
    load_average,
    paired_ratio,
    peak_memory_mib,
    write_json,
)
from benchmarks.recognize_parts import PARTS, seconds_of_parts
from benchmarks.workload import add_arguments, has_bfloat16, load_workload
from linkner_ray.config import RecognizeConfig, SentencesConfig
from linkner_ray.corpora.tables import corpus_documents
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.schemas import DOCUMENTS
from linkner_ray.spanner.features import Batch
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.subwords import SubwordEncoder
from linkner_ray.spanner.tokens import TokenTable
from linkner_ray.spanner.windows import batches_under_budget
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.encode_words import EncodeWords
from linkner_ray.stages.recognize_spans import RecognizeSpans
from linkner_ray.stages.split_sentences import SplitSentences

Numbers = dict[str, object]

WAYS = ("bare_encoder", "tokenizer", "encode_words", "stage", "stage_reading_all", "stage_bfloat16")
"""What is timed: the encoder's forward pass alone, the tokenizer's `encode_batch` alone, the stage
that encodes words, none of them known to it, the stage that reads what this one gives, and the same
without its eye for repeated sentences."""


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, sentences=400, rounds=7)
    parser.add_argument(
        "--batch-tokens", type=int, default=RecognizeConfig().batch_tokens, help="padded subwords"
    )
    parser.add_argument("--pages", help="folder of Parquet files with columns text and url")
    parser.add_argument("--host", help="only pages of this host")
    parser.add_argument("--documents", type=int, help="how many pages are timed; default: all")
    options = parser.parse_args(arguments)
    work = load_workload(options)
    name = options.host or options.pages or work.name
    if options.pages:
        documents = read_pages(options.pages, options.host, options.documents)
    else:
        documents, _ = corpus_documents(work.sentences, ids_prefix="benchmark")
    numbers = run(work.model, documents, batch_tokens=options.batch_tokens, rounds=options.rounds)
    numbers["threads"] = options.threads
    print(_report(name, numbers))
    if options.json:
        write_json(options.json, numbers)
    return numbers


def read_pages(folder: str, host: str | None, number: int | None = None) -> pa.Table:
    """The first documents of Parquet files, split into sentences."""
    pages = pq.read_table(folder, columns=["text", "url"]).to_pylist()
    kept = [page for page in pages if host is None or urlsplit(page["url"] or "").hostname == host]
    rows = [
        {"doc_id": str(index), "url": page["url"], "lang": None, "text": page["text"] or ""}
        for index, page in enumerate(kept[:number])
    ]
    split = SplitSentences(SentencesConfig())
    return apply_stage(split, pa.Table.from_pylist(rows, schema=DOCUMENTS))


def run(model: SpanNER, documents: pa.Table, *, batch_tokens: int, rounds: int) -> Numbers:
    """Time all ways side by side, bfloat16 where the processor computes it natively."""
    sentences = words_of(documents)
    tokens = TokenTable.of(sentences)
    num_words = len(tokens.word)
    numbers: Numbers = {
        "documents": documents.num_rows,
        "sentences": len(sentences),
        "words": num_words,
        "rounds": rounds,
        "batch_tokens": batch_tokens,
        "load_average_before": load_average(),
    }
    config = RecognizeConfig(batch_tokens=batch_tokens, device="cpu", dtype="float32")
    stage = RecognizeSpans(config, model)
    subwords = model.featurizer.subwords
    encode = partial(subwords.tokenizer.encode_batch, add_special_tokens=False)
    words_alone = partial(encode_new_words, subwords, documents)
    documents = words_alone()
    ways: dict[str, Callable[[], object]] = {
        "bare_encoder": bare_encoder(model, sentences, batch_tokens),
        "tokenizer": partial(encode, sentences, is_pretokenized=True),
        "encode_words": words_alone,
        "stage": partial(stage, documents),
        "stage_reading_all": partial(reading_all, stage, documents),
    }
    if has_bfloat16():
        half = config.model_copy(update={"dtype": "bfloat16"})
        ways["stage_bfloat16"] = partial(RecognizeSpans(half, copy.deepcopy(model)), documents)
    numbers["share_padding"] = _padding(model, sentences, batch_tokens)
    numbers["share_repeated"] = 1.0 - len(tokens.distinct()[0].word) / max(1, num_words)
    for name, way in ways.items():
        way()
        numbers[f"peak_memory_mib_{name}"] = peak_memory_mib(way)
    numbers |= _speeds(interleaved(ways, rounds=rounds), num_words)
    seconds = seconds_of_parts(stage, documents, rounds=rounds)
    numbers |= {f"share_{part}": seconds[part] / seconds["stage"] for part in PARTS}
    around = 1e6 * seconds["around_the_model"] / num_words
    numbers["cpu_us_per_word_around_the_model"] = around
    work = around + numbers["cpu_us_per_word_encode_words"]
    numbers["ratio_processor_work_to_tokenizer"] = work / numbers["cpu_us_per_word_tokenizer"]
    numbers["load_average_after"] = load_average()
    return numbers


def words_of(documents: pa.Table) -> list[list[str]]:
    """The words of each sentence."""
    columns = (documents[name].to_pylist() for name in ("text", "sentences"))
    return [
        [text[token["start"] : token["end"]] for token in sentence["tokens"]]
        for text, sentences in zip(*columns, strict=True)
        for sentence in sentences
    ]


def encode_new_words(encoder: SubwordEncoder, documents: pa.Table) -> pa.Table:
    """What a process that reads does for an encoder actor, by a copy that knows no word yet."""
    new = copy.copy(encoder)
    new._known = {}
    return apply_stage(EncodeWords(new), documents)


def reading_all(stage: RecognizeSpans, documents: pa.Table) -> pa.Table:
    """The stage, which takes no two sentences for the same."""
    with mock.patch.object(TokenTable, "distinct", lambda self: (self, np.arange(len(self)))):
        return stage(documents)


def batches_by_length(
    model: SpanNER, sentences: Sequence[Sequence[str]], batch_tokens: int
) -> list[Batch]:
    """The batches that the recognise stage makes of sentences that are all different."""
    windows = model.featurizer.windows(sentences)
    return [
        model.featurizer.collate(windows, rows)
        for rows in batches_under_budget(windows.lengths, batch_tokens)
    ]


def bare_encoder(
    model: SpanNER, sentences: Sequence[Sequence[str]], batch_tokens: int
) -> Callable[[], None]:
    """The encoder's forward pass over batches that are made beforehand, and nothing else."""
    encoder = model.encoder
    batches = [
        (batch.input_ids, batch.attention_mask)
        for batch in batches_by_length(model, sentences, batch_tokens)
    ]

    def forward() -> None:
        with torch.inference_mode():
            for ids, mask in batches:
                encoder(input_ids=ids, attention_mask=mask)

    return forward


def _padding(model: SpanNER, sentences: Sequence[Sequence[str]], batch_tokens: int) -> float:
    """Share of the subwords an encoder reads that are padding: what packing could save."""
    masks = [batch.attention_mask for batch in batches_by_length(model, sentences, batch_tokens)]
    return 1.0 - sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)


def _speeds(timings: Mapping[str, Timings], num_words: int) -> Numbers:
    numbers: Numbers = {}
    for name in WAYS:
        found = timings.get(name)
        numbers[f"words_per_s_{name}"] = num_words / found.median if found else None
        numbers[f"best_words_per_s_{name}"] = num_words / found.best if found else None
        numbers[f"cpu_us_per_word_{name}"] = 1e6 * found.median_cpu / num_words if found else None
    bare, stage, half = (timings.get(n) for n in ("bare_encoder", "stage", "stage_bfloat16"))
    numbers["ratio_stage_to_bare_encoder"] = paired_ratio(bare, stage)
    numbers["ratio_stage_to_bare_encoder_cpu"] = paired_ratio(bare, stage, "cpu")
    numbers["ratio_stage_to_reading_all_cpu"] = paired_ratio(
        timings["stage_reading_all"], stage, "cpu"
    )
    numbers["ratio_stage_bfloat16_to_bare_encoder"] = paired_ratio(bare, half) if half else None
    return numbers


def _report(name: str, numbers: Mapping[str, object]) -> str:
    bare = numbers["best_words_per_s_bare_encoder"]
    rows = []
    for way in WAYS:
        speed = numbers[f"words_per_s_{way}"]
        cells = {"way": way.replace("_", " ")}
        if speed is None:
            cells |= dict.fromkeys(("words/s", "best", "CPU us a word", "best to bare"), "-")
        else:
            cells |= {
                "words/s": f"{speed:,.0f}",
                "best": f"{numbers[f'best_words_per_s_{way}']:,.0f}",
                "CPU us a word": f"{numbers[f'cpu_us_per_word_{way}']:,.1f}",
                "best to bare": f"{numbers[f'best_words_per_s_{way}'] / bare:.3f}",
            }
        rows.append(cells)
    lines = [
        f"{name}: {numbers['sentences']} sentences, {numbers['words']} words, "
        f"{numbers['threads']} threads, load {numbers['load_average_before']:.1f} to "
        f"{numbers['load_average_after']:.1f}",
        "",
        markdown_table(rows),
        "",
    ]
    lines += [
        f"{key:<40} {value:.4g}"
        for key, value in numbers.items()
        if key.startswith(("ratio_", "share_", "peak_", "cpu_us_per_word_around"))
        and value is not None
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
