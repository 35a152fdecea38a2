"""Whatever can change a question is a fact of a plan; no Ray is started."""

import pytest

from linkner_ray.config import ExtractConfig
from linkner_ray.config.loading import load_config
from linkner_ray.errors import ConfigError
from linkner_ray.extract.plan import plan_extraction
from tests.crawl import write_checkpoint, write_parquet


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fingerprint")
    write_checkpoint(folder / "checkpoint")
    write_parquet(folder / "a.parquet", ["Ada met Bo ."])
    for name in ("train.conll", "copy.conll"):
        (folder / name).write_text("Ada B-PER\nleft O\nBonn B-LOC\n")
    (folder / "other.conll").write_text("Ada B-PER\nleft O\nRome B-LOC\n")
    return folder


@pytest.fixture
def digest(folder):
    def digest(*overrides):
        config = load_config(
            ExtractConfig,
            None,
            [
                f"input.paths=[{folder / 'a.parquet'}]",
                f"output.path={folder / 'out'}",
                f"recognize.checkpoint={folder / 'checkpoint'}",
                "llm.model=/elsewhere/some-llm",
                *overrides,
            ],
        )
        return plan_extraction(config).digest

    return digest


def demonstrations(folder, kind, corpus="train.conll", *more):
    return (
        f"llm.demonstrations.kind={kind}",
        f"llm.demonstrations.corpus={folder / corpus}",
        *more,
    )


def test_every_setting_of_the_prompt_makes_another_plan(digest, folder):
    plans = [
        (),
        ("llm.option_order=shuffled",),
        ("llm.option_order=shuffled", "llm.seed=1"),
        ("llm.option_order=rotations",),
        ("llm.option_order=rotations", "llm.num_option_orders=2"),
        ("llm.answer_form=choice",),
        ("llm.answer_form=name",),
        ("llm.context_sentences=1",),
        demonstrations(folder, "random"),
        demonstrations(folder, "random", "train.conll", "llm.demonstrations.per_class=2"),
        demonstrations(folder, "nearest"),
        demonstrations(folder, "nearest", "train.conll", "llm.demonstrations.count=2"),
    ]
    assert len({digest(*plan) for plan in plans}) == len(plans)
    assert digest() == digest()


@pytest.mark.parametrize("kind", ["random", "nearest"])
def test_what_a_corpus_holds_decides_and_not_its_name(digest, folder, kind):
    plain, copy, other = (
        digest(*demonstrations(folder, kind, corpus))
        for corpus in ("train.conll", "copy.conll", "other.conll")
    )
    assert plain == copy != other


def test_a_corpus_that_is_not_there_stops_a_run_before_it_starts(digest, folder):
    with pytest.raises(ConfigError, match=r"nowhere\.conll"):
        digest(*demonstrations(folder, "nearest", "nowhere.conll"))
