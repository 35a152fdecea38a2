"""What names and `auto` stand for is decided before a plan is named; no Ray is started."""

import pytest

from linkner_ray.config import ExtractConfig
from linkner_ray.config.loading import load_config
from linkner_ray.errors import ConfigError
from linkner_ray.extract.plan import describe_models, plan_extraction
from tests.crawl import write_checkpoint, write_parquet
from tests.spanner import tiny

OLD, NEW = "a" * 40, "b" * 40
LLM = "llm.model=/elsewhere/some-llm"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    write_checkpoint(folder / "checkpoint")
    write_parquet(folder / "a.parquet", ["Ada met Bo ."])
    for name, town in (("train", "Bonn"), ("copy", "Bonn"), ("other", "Rome")):
        (folder / f"{name}.conll").write_text(f"Ada B-PER\nleft O\n{town} B-LOC\n")
    return folder


@pytest.fixture
def plan_of(folder):
    def plan_of(*overrides):
        given = (
            *(f"input.paths=[{folder / 'a.parquet'}]", f"output.path={folder / 'out'}"),
            *(f"recognize.checkpoint={folder / 'checkpoint'}", *overrides),
        )
        return plan_extraction(load_config(ExtractConfig, None, list(given)))

    return plan_of


@pytest.fixture
def hub(tmp_path, monkeypatch):
    return tiny.fake_hub(tmp_path / "hub", monkeypatch)


def move_branch(hub):
    (hub / "refs" / "main").write_text(NEW)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "float32"),
        (["resources.encoder_gpus=0.5"], "bfloat16"),
        (["recognize.device=cuda"], "bfloat16"),
        (["recognize.device=cpu", "resources.encoder_gpus=1"], "float32"),
        (["recognize.dtype=float32", "resources.encoder_gpus=1"], "float32"),
    ],
)
def test_the_number_format_of_encoders_is_a_fact_of_the_plan(plan_of, overrides, expected):
    plan = plan_of("llm.backend=none", *overrides)
    assert plan.fingerprint["config"]["recognize"]["dtype"] == expected
    assert plan.config.recognize.dtype == expected  # what workers are told


def test_a_plan_names_the_commit_of_its_llm_and_its_number_format(plan_of, hub):
    plan = plan_of("llm.model=some/encoder")
    found = plan.fingerprint["config"]["llm"]
    assert (found["revision"], found["dtype"]) == (OLD, "bfloat16")
    assert plan.config.llm.revision == OLD
    move_branch(hub)
    assert plan_of("llm.model=some/encoder").digest != plan.digest
    assert plan_of("llm.model=some/encoder", f"llm.revision={OLD}").digest == plan.digest


@pytest.mark.usefixtures("hub")
def test_an_llm_that_nobody_knows_is_refused_before_anything_starts(plan_of):
    with pytest.raises(ConfigError, match=r"set llm\.revision to a whole commit"):
        plan_of("llm.model=other/llm")


def test_a_plan_names_what_chooses_demonstrations_by_content(plan_of, hub, folder):
    nearest = (
        *("llm.model=/elsewhere/llm", "llm.demonstrations.kind=nearest"),
        f"llm.demonstrations.corpus={folder / 'train.conll'}",
    )
    pinned = plan_of(*nearest, "llm.demonstrations.encoder=some/encoder")
    assert pinned.config.llm.demonstrations.encoder == f"some/encoder@{OLD}"
    move_branch(hub)
    assert plan_of(*nearest, "llm.demonstrations.encoder=some/encoder").digest != pinned.digest
    local = (*nearest, f"llm.demonstrations.encoder={hub / 'snapshots' / OLD}")
    before = plan_of(*local).digest
    weights = hub / "snapshots" / OLD / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert plan_of(*local).digest != before


def demonstrations(folder, kind, corpus="train.conll", *more):
    return (
        f"llm.demonstrations.kind={kind}",
        f"llm.demonstrations.corpus={folder / corpus}",
        *more,
    )


def test_every_setting_of_the_prompt_makes_another_plan(plan_of, folder):
    plans = [
        (),
        ("llm.answer_form=choice",),
        ("llm.answer_form=name",),
        ("llm.context_sentences=1",),
        demonstrations(folder, "random"),
        demonstrations(folder, "random", "train.conll", "llm.demonstrations.per_class=2"),
        demonstrations(folder, "nearest"),
        demonstrations(folder, "nearest", "train.conll", "llm.demonstrations.count=2"),
    ]
    assert len({plan_of(LLM, *plan).digest for plan in plans}) == len(plans)
    assert plan_of(LLM).digest == plan_of(LLM).digest


@pytest.mark.parametrize("kind", ["random", "nearest"])
def test_what_a_corpus_holds_decides_and_not_its_name(plan_of, folder, kind):
    plain, copy, other = (
        plan_of(LLM, *demonstrations(folder, kind, corpus)).digest
        for corpus in ("train.conll", "copy.conll", "other.conll")
    )
    assert plain == copy != other


def test_a_corpus_that_is_not_there_stops_a_run_before_it_starts(plan_of, folder):
    with pytest.raises(ConfigError, match=r"nowhere\.conll"):
        plan_of(LLM, *demonstrations(folder, "nearest", "nowhere.conll"))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["llm.backend=none"], "1 encoder actor"),
        (["llm.backend=none", "resources.encoder_actors=2"], "2 encoder actors"),
        (
            ["llm.model=LLM", "resources.llm_actors=3"],
            "1 encoder actor and LLM (2 MB) into 3 vLLM engines",
        ),
        (
            ["llm.backend=openai", "llm.model=gpt", "llm.base_url=http://me:word@host/v1"],
            "1 encoder actor and asking gpt at http://***@host/v1",
        ),
    ],
)
def test_the_models_that_a_run_loads_are_named_with_size_and_number(
    plan_of, folder, tmp_path, overrides, said
):
    tiny.save_bert(tmp_path / "llm")
    (tmp_path / "llm" / "weights").write_bytes(b"0" * 2_000_000)
    given = [one.replace("LLM", f"{tmp_path}/llm") for one in overrides]
    checkpoint = folder / "checkpoint"
    size = sum(file.stat().st_size for file in checkpoint.iterdir()) / 1e6
    start = f"{checkpoint} ({size:,.0f} MB) into "
    assert describe_models(plan_of(*given)) == start + said.replace("LLM", f"{tmp_path}/llm", 1)
