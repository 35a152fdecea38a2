import re

import pytest

from linkner_ray.config import EvaluateConfig, EvaluateSet, ExtractConfig, TrainConfig
from linkner_ray.config.loading import load_config
from linkner_ray.errors import ConfigError

MINIMAL = [
    "input.paths=[a.parquet]",
    "output.path=out",
    "recognize.checkpoint=c",
    "llm.backend=none",
]


def test_overrides_alone_make_a_config():
    config = load_config(ExtractConfig, None, [*MINIMAL, "routing.threshold=0.3"])
    assert config.routing.threshold == 0.3
    assert config.input.paths == ("a.parquet",)


def test_an_override_wins_over_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("routing:\n  threshold: 0.2\n")
    config = load_config(ExtractConfig, str(file), [*MINIMAL, "routing.threshold=0.9"])
    assert config.routing.threshold == 0.9


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("routing.treshold=0.3", "routing.threshold"),
        ("inputs.paths=[a]", "input"),
        ("threshold=0.3", "routing.threshold"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(override, nearest):
    with pytest.raises(ConfigError, match=f"did you mean '{nearest}'"):
        load_config(ExtractConfig, None, [*MINIMAL, override])


@pytest.mark.parametrize(
    ("override", "instead"),
    [
        ("cache.max_files=9", "'cache.max_files' was removed; runs merge no files; `linkner"),
        (
            "fusion.weight=0.3",
            "'fusion' was removed; the LLM overrides, or both decide by the file that",
        ),
        ("recognize.uncertainty=energy", "= 'energy' was removed; estimates are confidence"),
        (
            "routing.threshold_for=guaranteed",
            "routing.threshold_for = 'guaranteed' was removed; thresholds of dev are",
        ),
    ],
)
def test_what_was_removed_says_what_there_is_instead(override, instead):
    with pytest.raises(ConfigError, match=re.escape(instead)):
        load_config(ExtractConfig, None, [*MINIMAL, override])


def test_a_removed_value_in_a_list_is_named_too():
    options = ["sets=[a=b]", *MINIMAL[1:], "study.estimates=[entropy, margin]"]
    with pytest.raises(ConfigError, match=r"study.estimates.1 = 'margin' was removed; estimates"):
        load_config(EvaluateConfig, None, options)


def test_variables_are_filled_in_from_the_environment(tmp_path):
    file = tmp_path / "train.yaml"
    file.write_text(
        "corpus: {train: '${CORPORA}/train', dev: '${MISSING:-/default}/dev', label_set: conll03}\n"
        "output: {checkpoint: c, storage: s}\n"
    )
    config = load_config(TrainConfig, str(file), environment={"CORPORA": "/data"})
    assert config.corpus.train == "/data/train"
    assert config.corpus.dev == "/default/dev"


def test_a_variable_that_is_not_set_is_an_error_that_names_it():
    with pytest.raises(ConfigError, match="CORPORA is not set"):
        load_config(ExtractConfig, None, [*MINIMAL, "output.path=${CORPORA}"], environment={})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("routing.threshold=1.5", "routing.threshold: expected 1.0 or less, found 1.5"),
        ("llm.backend=vllm", "needs llm.model"),
        (
            "llm.backend=gpt",
            "expected 'vllm', 'openai', 'replay' or 'none', found 'gpt'",
        ),
        ("routing", "expected KEY=VALUE"),
        ("output.path.name=x", "'path' holds a value, not a section"),
        ("output.path=[", "not YAML"),
        ("input.paths=a/", "expected a list, found 'a/'; write input.paths=[a/] or, in a file, "),
        ("input.paths=[*.jsonl]", "begins with one of * & ! % @ ` or has ': ' or ' #' in it needs"),
        ("input.paths=[a: b]", "expected text, found a section: {a: b}; put text that has ': ' in"),
        ("input.paths=[]", "input.paths: expected 1 item or more, found a list: []"),
        ("input=", "input: expected a section, found ''"),
        ("output.path=null", "output.path: expected text, found nothing"),
        ("routing.threshold=high", "expected a number, found 'high'"),
        ("routing.threshold=off", "expected a number, found false (written off)"),
        (
            "routing.budget=[1]",
            "expected text or a whole number or a number, found a list: [1]",
        ),
        ("errors.raw_chars=1.5", "expected a whole number, found 1.5"),
        ("llm.enforce_eager=maybe", "expected true or false, found 'maybe'"),
        ("llm={model: a, model: b}", "key given twice: model"),
        ("llm={? [a] : b}", "a key must be text"),
        ("foo=3", "unknown key 'foo'; known here: input, output, sentences, recognize,"),
    ],
)
def test_a_wrong_value_is_one_line_that_says_where_what_was_found_and_what_to_write(
    override, message
):
    with pytest.raises(ConfigError) as caught:
        load_config(ExtractConfig, None, [*MINIMAL, override])
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("output.path=2026-11-23", "output.path", "2026-11-23"),
        ("routing.never_ask=[NO, 1.10, ~x]", "routing.never_ask", ("NO", "1.10", "~x")),
        ("llm.revision=1e3", "llm.revision", "1e3"),
        ("llm.revision=null", "llm.revision", None),
        ("llm.enforce_eager=yes", "llm.enforce_eager", True),
        ("routing.budget=5%", "routing.budget", "5%"),
        ("routing.budget=20000", "routing.budget", 20000),
        ("errors={max_share: 0.5}", "errors.max_failed_files", 7),
        ("errors=null", "errors.max_share", 0.01),
    ],
)
def test_text_is_taken_as_it_was_written(override, key, value):
    config = load_config(ExtractConfig, None, [*MINIMAL, "errors.max_failed_files=7", override])
    section, name = key.split(".")
    assert getattr(getattr(config, section), name) == value


def test_a_section_given_twice_is_an_error_with_both_lines(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("routing:\n  threshold: 0.4\nerrors: {}\nrouting:\n  budget: 5%\n")
    wanted = re.escape(f"{file}:4: key given twice: routing (first in line 1); put both into one")
    with pytest.raises(ConfigError, match=wanted):
        load_config(ExtractConfig, str(file), MINIMAL)


def test_a_wrong_value_of_a_file_is_named_with_its_line(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("input: {paths: [a]}\nrouting:\n  threshold: NO\n  never_ask: PER\nllm:\n")
    with pytest.raises(ConfigError) as caught:
        load_config(ExtractConfig, str(file))
    assert str(caught.value).splitlines() == [
        f"{file}: 'output.path' is missing",
        f"{file}: 'recognize.checkpoint' is missing",
        f"{file}:4: routing.never_ask: expected a list, found 'PER'; write "
        "routing.never_ask=[PER] or, in a file, never_ask: [PER]",
        f"{file}:5: llm.backend = 'vllm' needs llm.model; for a run without an LLM set "
        "llm.backend = none",
    ]


def test_keys_that_are_merged_in_are_given_once(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("errors: &e {raw_chars: 3}\nerrors_: {<<: *e, raw_chars: 4}\n")
    with pytest.raises(ConfigError, match="unknown key 'errors_'; did you mean 'errors'"):
        load_config(ExtractConfig, str(file), MINIMAL)
    file.write_text("errors: &e {raw_chars: [*e]}\n")
    with pytest.raises(ConfigError, match="an alias stands inside what it names"):
        load_config(ExtractConfig, str(file), MINIMAL)


def test_a_key_of_a_list_item_names_the_nearest():
    options = [*MINIMAL[1:], "sets=[{name: a, path: b, fromat: conll}]"]
    with pytest.raises(ConfigError, match=r"did you mean 'sets\.0\.format'"):
        load_config(EvaluateConfig, None, options)


@pytest.mark.parametrize(
    ("content", "message"),
    [("- a\n", "expected a mapping"), ("a: [\n", "is not YAML"), (None, "cannot be read")],
)
def test_a_file_that_is_no_config_is_an_error_that_names_it(tmp_path, content, message):
    file = tmp_path / "run.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(ExtractConfig, str(file), MINIMAL)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("dev=data/dev.conll", {"name": "dev", "path": "data/dev.conll"}),
        ("a=b=c.conll", {"name": "a", "path": "b=c.conll"}),
        ("x=s3://bucket/x.json:spanner_json", {"path": "s3://bucket/x.json"}),
        (
            "w=s3://b/w.conll:auto:maps/mine.yaml",
            {"path": "s3://b/w.conll", "format": "auto", "label_map": "maps/mine.yaml"},
        ),
        ("odd=a:b.conll", {"path": "a:b.conll", "format": "auto", "label_map": None}),
    ],
)
def test_a_labelled_set_on_the_command_line(text, wanted):
    found = EvaluateSet.model_validate(text).model_dump()
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize("text", ["dev", "=path", "a/b=path", "dev="])
def test_a_labelled_set_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected NAME=PATH"):
        EvaluateSet.model_validate(text)


def test_sets_need_names_of_their_own_and_shares_an_order():
    given = ["output.path=o", "recognize.checkpoint=c", "llm.backend=none"]
    with pytest.raises(ConfigError, match="a name of its own"):
        load_config(EvaluateConfig, None, [*given, "sets=['a=x', 'a=y']"])
    with pytest.raises(ConfigError, match="are not ascending"):
        load_config(EvaluateConfig, None, [*given, "sets=['a=x']", "study.shares=[0.5, 0.1]"])
