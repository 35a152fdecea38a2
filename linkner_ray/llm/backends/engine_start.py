"""Starting a vLLM engine: what its processes read, its arguments, its tokenizer, how it samples.

Importing this module does not import vllm. What vllm reads when it is imported has to be set
before, see `set_environment`.
"""

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from linkner_ray.config import LlmConfig
from linkner_ray.errors import StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.llm.chat import AnswerSymbols, PromptEncoder
from linkner_ray.llm.model_identity import engine_dtype
from linkner_ray.llm.names import choose_names

if TYPE_CHECKING:
    from vllm import AsyncLLMEngine

logger = logging.getLogger(__name__)

START_ERRORS = (
    RuntimeError,
    ValueError,
    OSError,
    ImportError,
    AssertionError,
    TypeError,
    LookupError,
    MemoryError,
)
"""What building an engine is seen to raise: its own checks, files, memory, a dead process."""

ENGINE_LOGGER = "vllm.v1.engine.async_llm"

_CPU_BLOCK_SIZE = 32
"""Tokens that the prefix cache keeps or computes together. vLLM takes 128 on CPUs, more than most
sentences have, so that questions about one sentence would share next to nothing."""


def choose_answer_symbols(
    config: LlmConfig, encoder: PromptEncoder, label_set: LabelSet
) -> AnswerSymbols:
    """Find what stands for the options, or nothing where replies are to be whole names.

    Raises:
        StartupError: If the tokenizer has nothing that suits the form that is wanted.
    """
    if config.answer_form == "choice":
        return AnswerSymbols((), ())
    if config.answer_form == "name":
        return choose_names(encoder, label_set)
    try:
        return encoder.choose_symbols(len(label_set.classes))
    except StartupError as error:
        if config.answer_form == "symbol":
            raise
        logger.warning("%s; replies are names now, without probabilities", error)
        return AnswerSymbols((), ())


def check_dtype(config: LlmConfig) -> None:
    """Check that the GPU computes in the dtype that requests are named by.

    vLLM would take another one for `auto`, but then two kinds of GPU would answer one request.

    Raises:
        StartupError: If that is bfloat16, and the GPU is one without it, such as a T4 or V100.
    """
    import torch

    if engine_dtype(config) != "bfloat16" or not torch.cuda.is_available():
        return
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise StartupError(
            f"{config.model}: llm.dtype = {config.dtype} means bfloat16 for this model, which the "
            f"GPU ({torch.cuda.get_device_name()}) does not compute in; set llm.dtype = float16"
        )


def set_environment() -> None:
    """Set what vllm reads at import and what its processes inherit."""
    # A forked engine inherits locks that other threads of this process hold.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


def _set_cpu_environment(config: LlmConfig) -> None:
    """Set what the engine's processes read on a machine without a GPU."""
    # Left to itself, every engine of a machine binds its threads to the same cores.
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    os.environ["OMP_NUM_THREADS"] = str(config.num_threads)
    if config.tensor_parallel_size == 1:
        # The model runs in the engine's process: a process less to start, and the same speed.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if config.enforce_eager:
        # A helper for log-probabilities would still be compiled, which needs a C++ compiler.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"


def load_tokenizer(config: LlmConfig) -> Any:  # noqa: ANN401 - a class that depends on the model
    """Tokenizer of the configured model.

    Raises:
        StartupError: If it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(config.model, revision=config.revision)
    except (OSError, ValueError, KeyError) as error:
        raise StartupError(
            f"tokenizer of {config.model} cannot be loaded: {error}; give llm.model a model "
            "with one"
        ) from error


def symbol_sampling(token_ids: Sequence[int]) -> Any:  # noqa: ANN401 - a class of vllm
    """One token out of some, with the probability of each."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        allowed_token_ids=list(token_ids),
        logprobs=len(token_ids),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def choice_sampling(names: Sequence[str]) -> Any:  # noqa: ANN401 - a class of vllm
    """One of some names, token by token."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        temperature=0.0,
        max_tokens=1 + max(len(name.encode()) for name in names),  # a byte a token, then the end
        structured_outputs=StructuredOutputsParams(choice=list(names)),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def free_sampling(held: Any) -> Any:  # noqa: ANN401 - classes of vllm
    """The same without restrictions on the reply."""
    from vllm import SamplingParams

    return SamplingParams(
        temperature=0.0,
        max_tokens=held.max_tokens,
        logprobs=held.logprobs and 2 * held.logprobs,  # with a leading space and without
        detokenize=False,
        output_kind=held.output_kind,
    )


def build_engine(config: LlmConfig, num_symbols: int) -> "AsyncLLMEngine":
    """Start the engine's processes and load the model; blocks until they are ready."""
    from vllm import AsyncEngineArgs, AsyncLLMEngine

    given = engine_arguments(config, num_symbols)
    logging.getLogger(ENGINE_LOGGER).addFilter(_is_news)
    return AsyncLLMEngine.from_engine_args(AsyncEngineArgs(**given, enable_log_requests=False))


def _is_news(record: logging.LogRecord) -> bool:
    """Whether what vLLM says is more than that its engine is gone.

    An engine that dies too early is `LiveEngine`'s to tell. One that ends before its actor does, at
    the end of each run, is no error, and vLLM would print a traceback of it.
    """
    error = record.exc_info[0] if record.exc_info else None
    return error is None or error.__name__ != "EngineDeadError"


def engine_arguments(config: LlmConfig, num_symbols: int) -> dict[str, Any]:
    """Arguments of an engine as a config wants it; also sets what its processes read at start."""
    from vllm.platforms import current_platform

    given: dict[str, Any] = {"gpu_memory_utilization": config.gpu_memory_utilization}
    if current_platform.is_cpu():
        _set_cpu_environment(config)
        given = {
            "kv_cache_memory_bytes": config.kv_cache_bytes,
            "block_size": _CPU_BLOCK_SIZE,
        }
    if config.max_model_len is not None:
        given["max_model_len"] = config.max_model_len
    if config.tensor_parallel_size > 1:
        given["distributed_executor_backend"] = "mp"
    return {
        "model": config.model,
        "revision": config.revision,
        "dtype": engine_dtype(config),
        "max_num_seqs": config.max_num_seqs,
        "tensor_parallel_size": config.tensor_parallel_size,
        "enforce_eager": config.enforce_eager,
        "enable_prefix_caching": config.prefix_caching,
        # Prompts are token ids and replies are not made text; only names need a grammar.
        "skip_tokenizer_init": num_symbols > 0,
        "logprobs_mode": "processed_logprobs",
        "max_logprobs": 2 * num_symbols,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **given,
    }
