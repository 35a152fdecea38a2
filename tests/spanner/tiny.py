"""Tiny encoders with tokenizers of a few lines: real architectures, no download."""

import re
import string
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from linkner_ray.config import ModelConfig
from linkner_ray.labels import Label, LabelSet
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.subwords import special_ids

LINES = [
    "EU rejects German call to boycott British lamb .",
    "Peter Blackburn met Angela Merkel in Berlin on Thursday .",
    "Paris , London and New York are cities ; Microsoft is not .",
    "U.S. President Barack Obama visited the World Bank in 2011-05-24 .",
]

LABELS = LabelSet(
    name="tiny",
    labels=(
        Label(id="PER", name="person", description="People."),
        Label(id="ORG", name="organization", description="Organizations."),
        Label(id="LOC", name="location", description="Places."),
    ),
)

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}

KINDS = ("bert", "roberta", "modernbert")


def wordpiece() -> Tokenizer:
    """An uncased WordPiece tokenizer that truncates and pads, as published ones often do."""
    return Tokenizer.from_str(_wordpiece())


def byte_bpe() -> Tokenizer:
    """A cased byte-level tokenizer that marks the beginning of a word by a space."""
    return Tokenizer.from_str(_byte_bpe())


@cache
def _wordpiece() -> str:
    """Whole words of LINES, and characters for the rest.

    The vocabulary is written down, since `WordPieceTrainer` breaks ties at random: each process
    would have another model.
    """
    words = sorted({word for line in LINES for word in re.findall(r"\w+|[^\w\s]", line.lower())})
    characters = sorted(set(string.ascii_lowercase + string.digits).union(*words))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *characters]
    pieces += [f"##{character}" for character in characters] + words
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]", length=8)
    return tokenizer.to_str()


@cache
def _byte_bpe() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        sep=("</s>", 2), cls_token=("<s>", 0), add_prefix_space=False
    )
    return tokenizer.to_str()


def encoder(kind: str) -> tuple[PreTrainedModel, Tokenizer]:
    """A random encoder of a kind, with a tokenizer of its family."""
    torch.manual_seed(0)
    if kind == "bert":
        tokenizer = wordpiece()
        vocabulary = {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": 0}
        config = BertConfig(**SIZES, **vocabulary, max_position_embeddings=256)
        return BertModel(config, add_pooling_layer=False), tokenizer
    tokenizer = byte_bpe()
    vocabulary = {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": 1}
    if kind == "roberta":
        config = RobertaConfig(**SIZES, **vocabulary, max_position_embeddings=258)
        return RobertaModel(config, add_pooling_layer=False), tokenizer
    config = ModernBertConfig(
        **SIZES, **vocabulary, max_position_embeddings=256, bos_token_id=0, eos_token_id=2,
        cls_token_id=0, sep_token_id=2, local_attention=16,
    )  # fmt: skip
    return ModernBertModel(config), tokenizer


def model(kind: str = "bert", *, loss: str = "cross_entropy", **config) -> SpanNER:
    """A random SpanNER in evaluation mode whose spans are far from all alike."""
    settings = {"max_width": 4, "head_width": 16, "max_subwords": 64, "window_overlap": 24}
    backbone, tokenizer = encoder(kind)
    spanner = SpanNER(
        backbone,
        tokenizer,
        special_ids(tokenizer),
        label_set=LABELS,
        config=ModelConfig(encoder=kind, **{**settings, **config}),
        loss=loss,
    )
    generator = torch.Generator().manual_seed(38)
    with torch.no_grad():
        for name, parameter in spanner.named_parameters():
            if not name.startswith("encoder."):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
        if spanner.case_embedding is not None:
            spanner.case_embedding.weight[-1] = 0
    return spanner.eval()


def without_a_number(word: str, **config) -> SpanNER:
    """The model, which computes NaN for every span of a sentence with this word."""
    broken = model(**config)
    embeddings = broken.encoder.get_input_embeddings().weight
    with torch.no_grad():
        for token in wordpiece().encode(word, add_special_tokens=False).ids:
            if token > 3:  # special ones and padding are in every sentence
                embeddings[token] = torch.nan
    return broken


def save_bert(folder: Path) -> str:
    """A tiny BERT as a Hugging Face folder, as a user would give it."""
    backbone, tokenizer = encoder("bert")
    backbone.save_pretrained(folder)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return str(folder)


def sentences(count: int, *, longest: int = 20) -> list[list[str]]:
    """Sentences of many lengths, the same ones each time."""
    words = [word for line in LINES for word in line.split()] + ["McDonald", "A320", "\u6771\u4eac"]
    generator = torch.Generator().manual_seed(2)

    def draw(high: int) -> int:
        return int(torch.randint(high, (1,), generator=generator))

    return [[words[draw(len(words))] for _ in range(1 + draw(longest))] for _ in range(count)]


def fake_hub(folder: Path, monkeypatch) -> Path:
    """A cache of the Hugging Face hub, offline, with two commits of a tiny BERT `some/encoder`.

    Returns:
        Its folder there; the main branch is at the first commit.
    """
    from huggingface_hub import constants

    repository = folder / "models--some--encoder"
    for letter in "ab":
        save_bert(repository / "snapshots" / (letter * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(folder))
    return repository
