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
        ("fusion.strategy=veto", "strategy = 'veto' was removed; strategies are override and"),
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
        ("routing.threshold=1.5", "routing.threshold: Input should be less than or equal to 1"),
        ("llm.backend=vllm", "needs llm.model"),
        ("llm.backend=gpt", "llm.backend: Input should be 'vllm', 'openai', 'replay' or 'none'"),
        ("routing", "expected KEY=VALUE"),
        ("output.path.name=x", "'path' holds a value, not a section"),
        ("output.path=[", "not YAML"),
    ],
)
def test_a_wrong_value_says_where_and_what(override, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        load_config(ExtractConfig, None, [*MINIMAL, override])


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


def test_equal_configs_have_equal_digests_and_others_do_not():
    one = load_config(ExtractConfig, None, MINIMAL)
    same = load_config(ExtractConfig, None, list(reversed(MINIMAL)))
    other = load_config(ExtractConfig, None, [*MINIMAL, "routing.threshold=0.11"])
    assert one.digest() == same.digest() != other.digest()


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
