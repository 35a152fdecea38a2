"""How fast is the recognise stage on a GPU, and where does its time go?

    python -m benchmarks.gpu --shapes minilm bert-base bert-large --json numbers.json
    python -m benchmarks.gpu --shapes minilm --batch-tokens 65536 --actors 8

Needs torch, tokenizers, numpy, pyarrow, pydantic and what comes with them: no Ray, no vLLM, no
download. Weights are random; pages of 400 words are made up. `--actors` runs several stages beside
each other on one GPU, as `resources.encoder_gpus=0.125` does: each has one thread for what is not
the model. Without a GPU the same runs on CPU, which `--shapes tiny` makes quick.
"""

import argparse
import itertools
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from benchmarks.measure import write_json
from benchmarks.recognize_parts import PARTS, seconds_of_parts
from linkner_ray.config import ModelConfig, RecognizeConfig
from linkner_ray.labels import Label, LabelSet
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.schemas import DOCUMENTS, STAGE_COLUMNS
from linkner_ray.spanner.encoders import build_encoder
from linkner_ray.spanner.features import Windows
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.subwords import special_ids
from linkner_ray.spanner.windows import batches_under_budget
from linkner_ray.stages.encode_words import EncodeWords
from linkner_ray.stages.recognize_spans import RecognizeSpans

Row = dict[str, object]

SHAPES = {
    "tiny": (32, 2, 2, 64),
    "minilm": (384, 6, 12, 1536),
    "bert-base": (768, 12, 12, 3072),
    "bert-large": (1024, 24, 16, 4096),
}
"""Width, layers, attention heads and inner width."""

SENTENCE_LENGTHS = (8, 36, 12, 24, 20) * 4
"""Words of the sentences of a page, 400 in all."""

SENTENCE_BOUNDS = list(itertools.pairwise(itertools.accumulate(SENTENCE_LENGTHS, initial=0)))
VOCABULARY = 30_522
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
SUFFIX = "ing"
NON_ENTITY_BIAS = 4.0
"""Added to the non-entity score of the random head, so that few spans are entities."""


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure every shape with every batch size, print the table, and write it for `--json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["minilm"])
    parser.add_argument("--batch-tokens", nargs="+", type=int, default=[4096, 16384, 65536])
    parser.add_argument("--pages", type=int, default=512, help="in a unit")
    parser.add_argument("--actors", type=int, default=1, help="stages beside each other")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each measurement")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    peak = peak_flops()
    print(f"{device_name()}: {peak / 1e12:.3g} TFLOP/s in a large matrix product")
    rows = []
    for shape, batch_tokens in itertools.product(options.shapes, options.batch_tokens):
        row = measure(
            shape,
            batch_tokens=batch_tokens,
            num_pages=options.pages,
            actors=options.actors,
            seconds=options.seconds,
        )
        row["share_of_peak"] = row["model_flops_per_s"] / peak
        rows.append(row)
        shown = {k: f"{v:,.3g}" if isinstance(v, float) else str(v) for k, v in row.items()}
        print(markdown_table([shown]), flush=True)
    if options.json:
        write_json(options.json, {"device": device_name(), "peak_flops": peak, "rows": rows})
    return rows


def measure(shape: str, *, batch_tokens: int, num_pages: int, actors: int, seconds: float) -> Row:
    """Speed of the stage with one shape and batch size, and where its time goes.

    `share_model_alone` is the time of encoder and head over batches that lie on the device already,
    as a share of the time the stage takes: what the GPU is busy, if it is one actor's alone.
    """
    work = (shape, batch_tokens, num_pages, seconds)
    if actors == 1:
        passes = [run_actor(*work)]
    else:
        context = multiprocessing.get_context("spawn")
        one_thread = {"initializer": torch.set_num_threads, "initargs": (1,)}
        with ProcessPoolExecutor(actors, mp_context=context, **one_thread) as pool:
            passes = list(pool.map(run_actor, *zip(*[work] * actors, strict=True)))
    passes_per_s = common_rate(passes)
    stage, pages = load_work(shape, batch_tokens, num_pages)
    stage(pages)
    parts = seconds_of_parts(stage, pages, rounds=2, clock=synchronized_clock)
    num_words = num_pages * sum(SENTENCE_LENGTHS)
    return {
        "shape": shape,
        "batch_tokens": batch_tokens,
        "actors": actors,
        "words_per_s": passes_per_s * num_words,
        "pages_per_s": passes_per_s * num_pages,
        "model_flops_per_s": passes_per_s * model_flops(stage, pages),
        "share_model_alone": passes_per_s / actors * model_seconds(stage, pages),
        **{f"share_{part}": parts[part] / parts["stage"] for part in PARTS},
    }


def run_actor(shape: str, batch_tokens: int, num_pages: int, seconds: float) -> list[float]:
    """Run the stage over and over; the times at which the first pass began and each one ended."""
    stage, pages = load_work(shape, batch_tokens, num_pages)
    stage(pages)
    times = [time.perf_counter()]
    while times[-1] - times[0] < seconds:
        stage(pages)
        times.append(time.perf_counter())
    return times


def common_rate(passes: Sequence[Sequence[float]]) -> float:
    """Passes a second of all actors together, while all of them were at work.

    Raises:
        ValueError: If there was no such time.
    """
    begin, end = max(times[0] for times in passes), min(times[-1] for times in passes)
    if begin >= end:
        raise ValueError("no moment at which all actors were at work; raise --seconds")
    done = [np.interp((begin, end), times, np.arange(len(times))) for times in passes]
    return float(sum(last - first for first, last in done)) / (end - begin)


def load_work(shape: str, batch_tokens: int, num_pages: int) -> tuple[RecognizeSpans, pa.Table]:
    """The stage, and pages with their words encoded, as an encoder actor gets them."""
    stage = load(shape, batch_tokens)
    return stage, EncodeWords(stage.recognizer.model.featurizer.subwords)(make_pages(num_pages))


def load(shape: str, batch_tokens: int) -> RecognizeSpans:
    """The stage with a random model of a shape; bfloat16 on a GPU, float32 on a CPU."""
    torch.manual_seed(0)
    width, layers, heads, inner = SHAPES[shape]
    encoder_config = {
        "model_type": "bert",
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "pad_token_id": 0,
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(encoder_config))
        encoder = build_encoder(Path(folder))
    with torch.no_grad():
        for name, weights in encoder.named_parameters():
            if name.endswith("LayerNorm.weight"):
                weights.fill_(1.0)
            else:
                weights.normal_(0.0, 0.02)
    tokenizer = make_tokenizer()
    labels = tuple(Label(id=name, name=name, description=name) for name in ("PER", "LOC", "ORG"))
    model = SpanNER(
        encoder,
        tokenizer,
        special_ids(tokenizer),
        label_set=LabelSet(name="random", labels=labels),
        config=ModelConfig(encoder=shape),
    )
    with torch.no_grad():
        model.head.output.bias[0] += NON_ENTITY_BIAS
    return RecognizeSpans(RecognizeConfig(batch_tokens=batch_tokens), model)


def make_words() -> list[str]:
    """Words of the made-up language, the most frequent first; every fourth has two subwords."""
    letters = [chr(ord("a") + index) for index in range(26)]
    stems = map("".join, itertools.product(letters, repeat=4))
    count = VOCABULARY - len(SPECIAL) - 1
    words = list(itertools.islice(stems, count))
    return [word + SUFFIX if index % 4 == 0 else word for index, word in enumerate(words, 1)]


def make_tokenizer() -> Tokenizer:
    """An uncased WordPiece tokenizer whose vocabulary has the stems of the words."""
    entries = [*SPECIAL, f"##{SUFFIX}", *(word.removesuffix(SUFFIX) for word in make_words())]
    vocabulary = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def make_pages(count: int) -> pa.Table:
    """Documents with sentences; words are as frequent as by Zipf's law, a tenth is capitalised."""
    generator = np.random.default_rng(0)
    words = make_words()
    share = np.cumsum(1.0 / np.arange(3, len(words) + 3))
    shape = (count, sum(SENTENCE_LENGTHS))
    drawn = np.searchsorted(share, generator.random(shape) * share[-1]).tolist()
    is_title = (generator.random(shape) < 0.1).tolist()
    rows = []
    for index in range(count):
        pairs = zip(drawn[index], is_title[index], strict=True)
        page = [words[number].title() if title else words[number] for number, title in pairs]
        ends = itertools.accumulate(page, lambda end, word: end + 1 + len(word), initial=-1)
        tokens = [
            {"start": end - len(word), "end": end}
            for word, end in zip(page, itertools.islice(ends, 1, None), strict=True)
        ]
        sentences = [
            {"start": tokens[a]["start"], "end": tokens[b - 1]["end"], "tokens": tokens[a:b]}
            for a, b in SENTENCE_BOUNDS
        ]
        rows.append({"doc_id": str(index), "text": " ".join(page), "sentences": sentences})
    schema = DOCUMENTS.append(pa.field("sentences", STAGE_COLUMNS["sentences"]))
    return pa.Table.from_pylist(rows, schema=schema)


def windows_of(stage: RecognizeSpans, pages: pa.Table) -> Windows:
    """The windows of all sentences of made-up pages."""
    words = [text.split(" ") for text in pages["text"].to_pylist()]
    sentences = [page[first:end] for page in words for first, end in SENTENCE_BOUNDS]
    return stage.recognizer.model.featurizer.windows(sentences)


def model_seconds(stage: RecognizeSpans, pages: pa.Table) -> float:
    """Seconds of encoder and head over all batches, which lie on the device already."""
    model, windows = stage.recognizer.model, windows_of(stage, pages)
    work = []
    for rows in batches_under_budget(windows.lengths, stage.recognizer.config.batch_tokens):
        batch = model.featurizer.collate(windows, rows).to(model.device)
        work.append((batch, batch.span_mask.nonzero(as_tuple=True)))
    started = synchronized_clock()
    with torch.inference_mode():
        for batch, place in work:
            model.head.logits_at(model.project(batch), place)
    return synchronized_clock() - started


def model_flops(stage: RecognizeSpans, pages: pa.Table) -> float:
    """Operations of the encoder's matrix products for all pages, without padding."""
    encoder = stage.recognizer.model.encoder
    lengths = windows_of(stage, pages).lengths.astype(np.float64)
    weights = sum(w.numel() for w in encoder.encoder.parameters() if w.ndim > 1)
    config = encoder.config
    attention = 4.0 * config.num_hidden_layers * config.hidden_size * (lengths**2).sum()
    return float(2.0 * weights * lengths.sum() + attention)


def peak_flops() -> float:
    """Operations a second in a large matrix product, in the number format of the encoder."""
    on_gpu = torch.cuda.is_available()
    size, dtype = (8192, torch.bfloat16) if on_gpu else (512, torch.float32)
    matrix = torch.randn(size, size, device="cuda" if on_gpu else "cpu").to(dtype)
    seconds = []
    for _ in range(5):
        started = synchronized_clock()
        matrix @ matrix
        seconds.append(synchronized_clock() - started)
    return 2.0 * size**3 / min(seconds)


def synchronized_clock() -> float:
    """Elapsed seconds, read when the GPU has done all it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def device_name() -> str:
    """What computes."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


if __name__ == "__main__":
    main()
