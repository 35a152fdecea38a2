"""Tiny tokenizers and a tiny LLM, built here: no download, random weights."""

from pathlib import Path

import torch
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }}[/INST]"
    "{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
)

GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<start_of_turn>{{ m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SMOLLM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}"
    + CHATML
)
QWEN = CHATML.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and not enable_thinking %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}",
)

STYLES = {
    "chatml": (CHATML, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    "llama3": (
        LLAMA3,
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
    ),
    "mistral": (MISTRAL, ("<s>", "</s>", "[INST]", "[/INST]"), "</s>"),
    "gemma": (GEMMA, ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), "<eos>"),
    "smollm": (SMOLLM, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    "qwen": (QWEN, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>"),
}

ADDED = "<think>"
"""An added token that is not a special one."""

OF_TEXT = {"gemma": ("\n", "\n\n", "\u2581\u2581"), "qwen": ("\n\n",)}
"""Added tokens of which a text may consist; those of Gemma are in its vocabulary besides."""

LINES = [
    "Which option is the span? person organization location",
    "Ada Lovelace met IBM in Paris.",
]


def tokenizer(style: str) -> PreTrainedTokenizerFast:
    """The control tokens and chat template of a style, on byte-level BPE or SentencePiece."""
    template, control, end = STYLES[style]
    inner = _sentencepiece(style) if style in ("mistral", "gemma") else _byte_level()
    inner.add_special_tokens(list(control))
    inner.add_tokens([AddedToken(t, normalized=False) for t in OF_TEXT.get(style, ())])
    inner.add_tokens([AddedToken(ADDED, special=False), AddedToken("</think>", special=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=control[0],
        eos_token=end,
        pad_token=control[0],
        chat_template=template,
    )


def _byte_level() -> Tokenizer:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(LINES, trainer)
    return inner


def _sentencepiece(style: str) -> Tokenizer:
    """Characters, or else their bytes; a space is U+2581 and joins the word behind it."""
    space = "\u2581"
    characters = dict.fromkeys([space, *(chr(code) for code in range(33, 127)), "\n", "\n\n"])
    merges = [(space, "A"), (space, "T"), (space, space)]
    pieces = [f"<0x{byte:02X}>" for byte in range(256)] + list(characters)
    pieces += ["".join(pair) for pair in merges]
    vocabulary = {piece: index for index, piece in enumerate(["<unk>", *pieces])}
    inner = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    if style == "mistral":
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        inner.normalizer = normalizers.Replace(" ", space)
    inner.decoder = decoders.Sequence(
        [decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return inner


def save_llm(folder: Path, *, style: str = "chatml", context: int = 512) -> str:
    """Save a random Llama, 2 layers and 64 wide, with its tokenizer."""
    words = tokenizer(style)
    words.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)
