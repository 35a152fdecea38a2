"""What the benchmarks work on: labelled sentences, and a model to read them."""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from examples.demo.world import make_corpus, write_conll
from linkner_ray.config import ModelConfig
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.labelled import LabelledSentence
from linkner_ray.labels import LabelSet, load_label_set
from linkner_ray.spanner.model import SpanNER

NON_ENTITY_BIAS = 4.0
"""Added to the non-entity score of a head that was never trained, which otherwise calls most spans
entities; a trained one calls a few of a hundred so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Sentences with gold, and the model.

    Attributes:
        name: Where the sentences come from.
        sentences: In the order of the file.
        model: In evaluation mode.
    """

    name: str
    sentences: tuple[LabelledSentence, ...]
    model: SpanNER

    @property
    def num_words(self) -> int:
        """Tokens of all sentences."""
        return sum(len(sentence.tokens) for sentence in self.sentences)


def add_arguments(parser: argparse.ArgumentParser, *, sentences: int, rounds: int) -> None:
    """Declare the options both benchmarks have.

    Args:
        parser: Gets the options.
        sentences: Default of `--sentences`.
        rounds: Default of `--rounds`.
    """
    parser.add_argument("--data", help="corpus (CoNLL or SpanNER JSON); default: the demo's")
    parser.add_argument("--label-set", help="of the corpus; default: the checkpoint's")
    parser.add_argument("--checkpoint", help="trained model; default: a new head on --encoder")
    parser.add_argument("--encoder", default=ModelConfig().encoder, help="used without checkpoint")
    parser.add_argument("--sentences", type=int, default=sentences, help="how many are timed")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="write the numbers here")


def load_workload(options: argparse.Namespace) -> Workload:
    """Read the sentences and load or make the model that the options name.

    Raises:
        ConfigError: If a file, folder or label set is not there.
        DataError: If the corpus is malformed or uses a label its label set lacks.
    """
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = SpanNER.from_pretrained(options.checkpoint) if options.checkpoint else None
    if options.label_set or options.data is None:
        label_set = load_label_set(options.label_set or "demo")
    else:
        label_set = model.label_set if model else load_label_set("conll03")
    return Workload(
        name=options.data or "demo corpus",
        sentences=read_sentences(options.data, label_set)[: options.sentences],
        model=model or _untrained(options.encoder, label_set),
    )


def has_bfloat16() -> bool:
    """Whether the processor computes bfloat16 natively; elsewhere it is emulated and slow."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def read_sentences(corpus: str | None, label_set: LabelSet) -> tuple[LabelledSentence, ...]:
    """Sentences of a corpus, or of the demo's where none is given."""
    if corpus is not None:
        return read_corpus(corpus, label_set=label_set).sentences
    train, _ = make_corpus(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.conll"
        write_conll(path, train)
        return read_corpus(path, label_set=label_set).sentences


def _untrained(encoder: str, label_set: LabelSet) -> SpanNER:
    model = SpanNER.from_encoder(ModelConfig(encoder=encoder), label_set).eval()
    with torch.no_grad():
        model.head.output.bias[0] += NON_ENTITY_BIAS
    return model
