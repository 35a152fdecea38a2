"""What is read, and what is written where."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from linkner_ray.config.base import Config, Decides, Step


class InputConfig(Config):
    """Where documents come from."""

    decides: ClassVar[Step | None] = "documents"

    paths: Annotated[tuple[str, ...], Decides(None)] = Field(min_length=1)
    """Files, folders or globs, local or with a scheme such as s3://; a folder is searched."""

    format: Annotated[Literal["auto", "parquet", "jsonl", "wet", "warc"], Decides(None)] = "auto"
    """Format of every shard; auto goes by the file name."""

    text_column: str = "text"
    """Column, or JSON key, of the text; WET and WARC have none."""

    id_column: str | None = "doc_id"
    """Column of document ids; where a shard lacks it, ids are `path:row`. WET and WARC use the
    record id."""

    url_column: str | None = "url"
    """Column of addresses, kept in the output where a shard has it."""

    lang_column: str | None = "lang"
    """Column of languages, kept in the output where a shard has it."""

    unit_documents: int = Field(512, ge=1)
    """Documents in a unit of work, which becomes one output file."""

    unit_chars: int = Field(16_000_000, ge=1)
    """Bytes of text after which a unit is closed early; never less than its characters."""

    max_document_chars: int = Field(5_000_000, ge=1)
    """Longer documents are quarantined, not cut."""


class SentencesConfig(Config):
    """How text becomes sentences and tokens."""

    decides: ClassVar[Step | None] = "sentences"

    segmenter: Literal["blingfire", "lines"] = "blingfire"
    """Applied inside each line; `lines` takes every line as one sentence."""

    max_token_chars: int = Field(64, ge=8)
    """A longer run of letters is cut into several tokens."""


class OutputConfig(Config):
    """What is written, and where."""

    decides: ClassVar[Step | None] = "documents"

    path: Annotated[str, Decides(None)] = Field(min_length=1)
    """Folder or prefix of the run, local or with a scheme."""

    keep_text: bool = False
    """Store the text beside its entities."""

    keep_candidates: bool = False
    """Write `candidates/`: sentences, candidates, routes and answers, for `linkner show`."""

    lock_timeout_s: Annotated[float, Decides(None)] = Field(60.0, gt=0)
    """Seconds without a heartbeat after which another run may take the output over; a run that
    lives shows six in that time."""


class AnswerErrorsConfig(Config):
    """What an evaluation puts up with."""

    max_failed_answers_share: float = Field(0.05, ge=0, le=1)
    """Share of LLM questions without a readable answer; over it the run finishes and exits 3."""


class ErrorsConfig(AnswerErrorsConfig):
    """How much bad input a run accepts."""

    max_share: float = Field(0.01, ge=0, le=1)
    """Share of documents that may be quarantined; over it the run finishes and exits 3."""

    max_failed_files: int = Field(0, ge=0)
    """Shards that may be unreadable, or not to their end; over it the run finishes and exits 3."""

    raw_chars: Annotated[int, Decides("documents")] = Field(200, ge=0)
    """Characters of a bad value kept in quarantine."""


class LoggingConfig(Config):
    """The log of a run."""

    format: Literal["text", "json"] = "text"
    """`text` is for people; `json` writes one object a line to standard error, workers' logs and
    progress as well."""
