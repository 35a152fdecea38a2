"""What holds between the sections of a job, and what its keys decide."""

import re

import pytest

from linkner_ray.config import EvaluateConfig, ExtractConfig, NightlyConfig, TrainConfig
from linkner_ray.config.loading import load_config
from linkner_ray.errors import ConfigError

MODEL = ["recognize.checkpoint=c", "llm.model=m", "output.path=out"]
NOTHING = object()
JOBS = {
    ExtractConfig: ["input.paths=[a]", *MODEL],
    NightlyConfig: [
        "input.paths=[a]",
        "night.name=2026-11-23",
        "output.keep_candidates=true",
        *MODEL,
    ],
    EvaluateConfig: ["sets=['test=a']", *MODEL],
}
TRAIN = [
    "corpus.train=a", "corpus.dev=b", "corpus.label_set=conll03", "output.checkpoint=c",
    "output.storage=s",
]  # fmt: skip


def job_with(kind, **settings):
    overrides = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return load_config(kind, None, [*JOBS[kind], *overrides])


@pytest.mark.parametrize("kind", JOBS)
@pytest.mark.parametrize(
    ("gpus", "engine", "message"),
    [
        (1, {"tensor_parallel_size": 2}, "set resources.llm_gpus=2"),
        (1.5, {}, "a part of one GPU or whole ones; set 2"),
        (0.5, {}, "llm.gpu_memory_utilization = 0.9 is a share of a whole GPU's memory, and "),
        (0.5, {"gpu_memory_utilization": 0.51}, "set llm.gpu_memory_utilization=0.45, or"),
    ],
)
def test_an_engine_that_wants_more_than_it_gets_is_refused_by_every_job(
    kind, gpus, engine, message
):
    wanted = {f"llm__{key}": value for key, value in engine.items()}
    with pytest.raises(ConfigError, match=re.escape(message)):
        job_with(kind, resources__llm_gpus=gpus, **wanted)


@pytest.mark.parametrize(
    ("kind", "override", "message"),
    [
        (ExtractConfig, "resources.encoder_gpus=1.5", "encoder_gpus = 1.5: Ray gives an actor a"),
        (TrainConfig, "workers.gpus=2.5", "workers.gpus = 2.5: Ray gives an actor a part of one"),
        (ExtractConfig, "resources={encoder_actors: 2, max_encoder_actors: 1}", "= 1 is below res"),
        (ExtractConfig, "resources.max_encoder_actors=0", "expected 1 or more, found 0"),
        (ExtractConfig, "resources.startup_timeout_s=.inf", "expected a finite number, found .inf"),
        (ExtractConfig, "routing.requests_per_s=.inf", "expected a finite number, found .inf"),
        (EvaluateConfig, "study.shares=[]", "study.shares: expected 1 item or more, found a list"),
        (EvaluateConfig, "sets=[..=a]", "expected a name that has no / and begins with no dot, fo"),
        (TrainConfig, "output.run_name=../other", "expected a name that has no / and begins with"),
        (TrainConfig, "output.run_name=", "expected a name that has no / and begins with no dot"),
        (
            TrainConfig,
            "model={max_subwords: 32, window_overlap: 32}",
            "= 32 is no part of a wind",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(kind, override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(kind, None, [*JOBS.get(kind, TRAIN), override])


@pytest.mark.parametrize(
    "settings",
    [
        {"resources__llm_gpus": 0.5, "llm__gpu_memory_utilization": 0.5},
        {"resources__llm_gpus": 2, "llm__tensor_parallel_size": 2},
        {"resources__llm_gpus": 0, "llm__tensor_parallel_size": 4},
        {"resources__llm_gpus": 0.5, "llm__backend": "none"},
    ],
)
def test_engines_may_share_a_gpu_have_several_or_none(settings):
    job_with(ExtractConfig, **settings)


@pytest.mark.parametrize(
    ("key", "step"),
    [
        ("input.text_column", "documents"),
        ("input.paths", None),
        ("sentences.segmenter", "sentences"),
        ("recognize.dtype", "encoder"),
        ("recognize.near_miss_floor", "calibration"),
        ("recognize.device", None),
        ("routing.threshold", "routing"),
        ("routing.threshold_for", None),
        ("llm.model", "llm"),
        ("llm.max_retries", None),
        ("llm.demonstrations.per_class", "llm"),
        ("llm.demonstrations.corpus", None),
        ("output.keep_text", "documents"),
        ("errors.raw_chars", "documents"),
        ("errors.max_share", None),
        ("resources.llm_gpus", None),
        ("cache.path", None),
        ("logging.format", None),
    ],
)
def test_a_key_says_what_it_decides(key, step):
    assert ExtractConfig.steps_by_key().get(key) == step
    value = job_with(ExtractConfig).deciding()
    for part in key.split("."):
        value = value.get(part, NOTHING) if value is not NOTHING else NOTHING
    assert (value is NOTHING) == (step is None)
