"""The work of the scale benchmarks: pages, a checkpoint, and the rate of a finished run."""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

UNITS_PER_SHARD = 10

NON_ENTITY_BIAS = 0.5
"""Added to the non-entity score of the random head, or nearly every span is an entity."""

_NAMES = ("Ada Lovelace", "Berlin", "Acme Corp", "Paris", "Grace Hopper", "Globex", "Oslo")
_VERBS = ("visited", "left", "bought", "praised", "met", "sued")


class Rate(NamedTuple):
    """Of a run's steady state, from the times at which its part files were written."""

    documents: int
    """Of the whole run."""

    docs_per_s: float
    """Documents of all part files but the first, over the time from the first to the last."""

    first_at: float
    """Time of the first part file."""


def steady_rate(output: Path) -> Rate:
    """Rate of a finished run with at least two part files."""
    rows_of = {
        file["path"]: file["rows"]
        for file in pq.read_table(output / "_manifest.parquet").to_pylist()
        if file["path"].startswith("entities/")
    }
    written = sorted(((output / path).stat().st_mtime, rows) for path, rows in rows_of.items())
    seconds = written[-1][0] - written[0][0]
    steady = sum(rows for _, rows in written[1:])
    return Rate(sum(rows_of.values()), steady / seconds, written[0][0])


def write_crawl(folder: Path, documents: int, *, unit_documents: int) -> Path:
    """Parquet shards of documents of two short sentences, a row group for each unit."""
    folder.mkdir(exist_ok=True)
    per_shard = UNITS_PER_SHARD * unit_documents
    for first in range(0, documents, per_shard):
        numbers = range(first, min(first + per_shard, documents))
        texts = [
            f"{_NAMES[n % 7]} {_VERBS[n % 6]} {_NAMES[n % 5]} in {1900 + n % 100} .\n"
            f"It was page {n} of {_NAMES[n % 3]} ."
            for n in numbers
        ]
        table = pa.table({"doc_id": [f"d{n}" for n in numbers], "text": texts})
        pq.write_table(table, folder / f"{first:09d}.parquet", row_group_size=unit_documents)
    return folder


def write_checkpoint(folder: Path) -> str:
    """A SpanNER of one narrow layer with random weights, which has five entities in a document."""
    # Not at the top: the parent would hold a model library while it watches others.
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel

    from linkner_ray.config import ModelConfig
    from linkner_ray.labels import load_label_set
    from linkner_ray.spanner.model import SpanNER
    from linkner_ray.spanner.subwords import special_ids

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({w for n in _NAMES for w in n.split()})]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[1]))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    encoder = BertModel(
        BertConfig(
            vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=16, max_position_embeddings=64, pad_token_id=0,
        ),
        add_pooling_layer=False,
    )  # fmt: skip
    config = ModelConfig(
        encoder="bert", max_width=2, head_width=8, max_subwords=32, window_overlap=4
    )
    model = SpanNER(
        encoder, tokenizer, special_ids(tokenizer), label_set=load_label_set("conll03"),
        config=config,
    ).eval()  # fmt: skip
    with torch.no_grad():
        model.head.output.bias[0] += NON_ENTITY_BIAS
    model.save_pretrained(folder)
    return str(folder)
