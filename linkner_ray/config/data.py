"""What is read, and what is written where."""

import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from linkner_ray.config.base import Config, Decides, Step
from linkner_ray.config.languages import codes_of

Value = bool | int | float | str | datetime.datetime | datetime.date
"""What a column is compared with."""

Operator = Literal["=", "==", "!=", "<", ">", "<=", ">=", "in", "not in"]
Predicate = tuple[str, Operator, Value | tuple[Value, ...]]
"""Column, operator and value; `in` and `not in` take a list of values."""


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
    """Column of languages, kept in the output where a shard has it; codes may have any common
    form. Where shards lack `lang`, it is looked for as language, lang_code, language_code and
    language_id."""

    languages: Annotated[tuple[str, ...], codes_of("input.languages")] = ()
    """Languages that are read, such as `[en, zh_Hant]`; empty: all. ISO 639 codes, with a script
    where it matters; `und` is what cannot be told. Other documents are skipped and counted. A
    document is in the language that its shard says, else in the one that is detected."""

    filter: tuple[tuple[Predicate, ...], ...] = ()
    """Which rows of Parquet shards are read: `[[score, ">=", 0.8], [host, "in", [a.org, b.org]]]`
    are conditions that must all hold, and of a list of such lists one must. Operators are those of
    `pyarrow.parquet.read_table(filters=...)`. Row groups that have no such row are not read."""

    columns: tuple[str, ...] = ()
    """More columns of Parquet shards, which stand beside the entities."""

    unit_documents: int = Field(512, ge=1)
    """Documents in a unit of work, which becomes one output file."""

    unit_chars: int = Field(16_000_000, ge=1)
    """Bytes of text after which a unit is closed early; never less than its characters."""

    max_document_chars: int = Field(5_000_000, ge=1)
    """Longer documents are quarantined, not cut."""

    @field_validator("filter", mode="before")
    @classmethod
    def _list_of_alternatives(cls, value: object) -> object:
        """One list of conditions is the only alternative."""
        match value:
            case [[str(), *_], *_]:
                return [value]
        return value

    @property
    def filter_columns(self) -> list[str]:
        """Columns that `filter` names, each once."""
        return list(dict.fromkeys(column for all_of in self.filter for column, _, _ in all_of))


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
