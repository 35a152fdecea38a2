"""The LLM: its backends, what it is shown, what is kept of its answers and how they count."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from linkner_ray.config.base import Config, CorpusFormatName, Decides, Step


class DemonstrationsConfig(Config):
    """Solved questions that the LLM is shown before the one it is asked."""

    decides: ClassVar[Step | None] = "llm"

    kind: Literal["none", "random", "nearest"] = "none"
    """random: some of every class, non-entity among them, the same for the whole run (the paper's,
    which had none of non-entity). nearest: the labelled spans most like the one asked about, by the
    span and by its sentence alike, no two of one sentence. A sentence that contains the one asked
    about is never shown."""

    corpus: Annotated[str, Decides(None)] = ""
    """Labelled corpus, such as the one the checkpoint was trained on; it uses the checkpoint's
    labels. Every node reads it."""

    format: CorpusFormatName = "auto"
    """Format of the corpus; auto goes by its content."""

    per_class: int = Field(1, ge=1)
    """Demonstrations of each class; kind random only."""

    count: int = Field(4, ge=1)
    """Demonstrations for each question; kind nearest only."""

    encoder: str = "all-MiniLM-L6-v2"
    """Says which spans are alike, named as `model.encoder` of a training, or a checkpoint's local
    folder; kind nearest only. It reads the corpus once in each LLM actor, on CPU."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind != "none" and not self.corpus:
            raise ValueError(
                f"llm.demonstrations.kind = '{self.kind}' needs llm.demonstrations.corpus, a "
                "labelled corpus in the labels of the checkpoint"
            )
        return self


class LlmConfig(Config):
    """The model that classifies uncertain spans."""

    decides: ClassVar[Step | None] = "llm"

    backend: Literal["vllm", "openai", "replay", "none"] = "vllm"
    """vllm: engine inside an actor; openai: any OpenAI-compatible endpoint; replay: earlier answers
    alone, out of the answer cache or `replay_path`; none: local only."""

    model: str = ""
    """Hugging Face id, local folder, or the name an endpoint serves."""

    revision: str | None = None
    """Version of the model. Behind an endpoint it is a name of your choice: change it when the
    model there changes, or an answer cache answers for the old one."""

    replay_path: Annotated[str | None, Decides(None)] = None
    """What an LLM once extracted from whole sentences, as JSONL, local or with a scheme; backend
    replay only."""

    base_url: Annotated[str | None, Decides(None)] = None
    """Endpoint, such as http://host:8000/v1; backend openai only."""

    api_key_env: Annotated[str, Decides(None)] = "OPENAI_API_KEY"
    """Environment variable that holds the key; never logged."""

    context_sentences: int = Field(0, ge=0)
    """Sentences of context before and after the span's own."""

    max_context_chars: int = Field(2000, ge=200)
    """Context is cut to this many code points around the span, and the cut is marked."""

    answer_form: Literal["auto", "symbol", "name", "choice"] = "auto"
    """symbol: one token for each option, with its probability. name: the same with the first tokens
    of the options' names; where two are alike, another word stands for one name. choice: the engine
    picks among the names, in several passes and without probabilities. auto: symbol, and choice
    where the tokenizer of an engine has no such tokens. name and choice: backend vllm only."""

    seed: int = 0
    """Decides demonstrations."""

    demonstrations: DemonstrationsConfig = DemonstrationsConfig()

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: float16 for weights that are stored so, else bfloat16, the same on every node; a GPU
    older than Ampere has no bfloat16 and wants to be told float16."""

    max_model_len: int | None = Field(None, ge=64)
    """Most tokens of a prompt; default: what the model was made for."""

    max_num_seqs: Annotated[int, Decides(None)] = Field(64, ge=1)
    """Prompts that an engine computes at once."""

    max_in_flight: Annotated[int, Decides(None)] = Field(256, ge=1)
    """Requests under way at once in one actor; an engine is given at most twice `max_num_seqs`."""

    tensor_parallel_size: Annotated[int, Decides(None)] = Field(1, ge=1)
    """GPUs of one node that a model is spread over."""

    gpu_memory_utilization: Annotated[float, Decides(None)] = Field(0.9, gt=0, le=1)
    """Share of each GPU's memory that one engine takes; at most `resources.llm_gpus` where engines
    share a GPU."""

    kv_cache_bytes: Annotated[int, Decides(None)] = Field(256 * 2**20, ge=2**20)
    """Size of the KV cache on machines without a GPU."""

    prefix_caching: Annotated[bool, Decides(None)] = True
    """Whether the engine keeps the common beginning of prompts instead of computing it again."""

    enforce_eager: Annotated[bool, Decides(None)] = False
    """Whether the engine compiles nothing at its start: it is ready sooner and answers slower."""

    num_threads: Annotated[int, Decides(None)] = Field(1, ge=1)
    """CPU threads of one engine on machines without a GPU."""

    request_timeout_s: Annotated[float, Decides(None)] = Field(120.0, gt=0)
    """Seconds that an LLM may take for a request; they begin when the requests sent before it are
    answered. An LLM that answers nothing for as long counts as hung."""

    max_retries: Annotated[int, Decides(None)] = Field(5, ge=0)
    """Further tries of an endpoint request after 429, 5xx or a lost connection."""

    max_engine_rebuilds: Annotated[int, Decides(None)] = Field(3, ge=0)
    """How often one actor may rebuild a dead engine before the run stops."""

    max_span_crashes: Annotated[int, Decides(None)] = Field(2, ge=1)
    """Engine deaths after which a span in flight is given up as failed."""

    price_per_million_tokens: Annotated[float | None, Decides(None)] = Field(None, ge=0)
    """Price of a million prompt tokens, in any currency; reports and estimates add it up."""

    price_per_gpu_hour: Annotated[float | None, Decides(None)] = Field(None, ge=0)
    """Price of a GPU for an hour. A report counts all GPUs that the actors hold, for the whole
    time of the run; an estimate counts those of the engines."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.backend != "none" and not self.model and not self.replay_path:
            raise ValueError(
                f"llm.backend = '{self.backend}' needs llm.model; for a run without an LLM set "
                "llm.backend = none"
            )
        if self.backend == "openai" and self.answer_form in ("name", "choice"):
            raise ValueError(
                f"llm.answer_form = '{self.answer_form}' holds an engine to the names of the "
                "options and needs llm.backend = vllm; of an endpoint's replies symbols and names "
                "are read anyway"
            )
        if self.backend == "openai" and not self.base_url:
            raise ValueError(
                "llm.backend = 'openai' needs llm.base_url, such as http://host:8000/v1"
            )
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(
                f"llm.base_url = '{self.base_url}' is no web address; write one such as "
                "http://host:8000/v1"
            )
        if self.replay_path and self.backend != "replay":
            raise ValueError(
                f"llm.replay_path is read by llm.backend = 'replay' alone, not by "
                f"'{self.backend}'; leave it out"
            )
        if self.replay_path and self.context_sentences:
            raise ValueError(
                "llm.replay_path answers for single sentences; set llm.context_sentences = 0 "
                f"(it is {self.context_sentences})"
            )
        return self


class CacheConfig(Config):
    """Answers that are kept, so that nothing is asked twice."""

    path: str | None = None
    """Folder or prefix, local or with a scheme, shared by as many runs as you like; none: every run
    asks anew."""


def check_replay(llm: LlmConfig, cache: CacheConfig) -> None:
    """Check that a replay has one place to take its answers from.

    Raises:
        ValueError: If it has none or two.
    """
    if llm.backend == "replay" and bool(llm.replay_path) is bool(cache.path):
        raise ValueError(
            "llm.backend = 'replay' takes its answers from llm.replay_path or from cache.path: "
            f"set one of them ({'both are' if cache.path else 'none is'} set)"
        )
