"""`from linkner_ray import LinkNER`: the method on a few texts, as a run has it."""

import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from linkner_ray import Entity, LinkNER
from linkner_ray.config import LlmConfig, RoutingConfig
from linkner_ray.errors import ConfigError
from tests.crawl import text_of, write_parquet, write_thresholds
from tests.endpoint_server import Server, completion
from tests.fakes import ScriptedBackend
from tests.in_process import by_digest, extract_in_process, plan_of
from tests.spanner.tiny import LABELS

TEXTS = [text_of(number) for number in range(8)]
DOCUMENT = {"batch_scope": "document", "num_threads": 1}


@pytest.fixture
def server():
    server = Server()
    server.reply = lambda _number, _body: (200, completion("B", {"B": 0.7, "A": 0.2, "C": 0.1}))
    yield server
    server.close()


def start_scripted(monkeypatch):
    """What every LLM of this process is from now on."""
    backend = ScriptedBackend(LABELS, by_digest)
    monkeypatch.setattr("linkner_ray.stages.chain.start_backend", lambda *_, **_options: backend)
    return backend


def entities_of_a_run(monkeypatch, checkpoint, folder, *more):
    folder.mkdir(exist_ok=True)
    write_parquet(folder / "a.parquet", TEXTS)
    plan = plan_of(folder / "a.parquet", folder / "out", checkpoint, *more)
    extract_in_process(monkeypatch, plan)
    rows = pq.read_table(folder / "out/entities").to_pylist()
    found = {row["doc_id"]: [Entity(**one) for one in row["entities"]] for row in rows}
    return plan, [found[f"p{number}"] for number in range(len(TEXTS))]


def test_entities_are_those_of_a_run(monkeypatch, checkpoint, tmp_path):
    plan, expected = entities_of_a_run(
        monkeypatch, checkpoint, tmp_path, "recognize.batch_scope=document",
        "llm.context_sentences=1",
    )  # fmt: skip
    backend = start_scripted(monkeypatch)
    with LinkNER.from_pretrained(
        checkpoint,
        llm=plan.config.llm,
        routing=plan.config.routing,
    ) as linkner:
        found = linkner.predict(TEXTS)
        assert not backend.is_closed
    assert backend.is_closed
    assert found == expected
    sources = {one.source for entities in found for one in entities}
    assert sources == {"local", "llm", "same_name"}
    assert [entities.text for entities in found] == TEXTS
    assert len(found.to_pandas()) == sum(map(len, expected))


def test_without_an_llm_everything_is_the_local_models_word(monkeypatch, checkpoint, tmp_path):
    _, expected = entities_of_a_run(
        monkeypatch, checkpoint, tmp_path, "recognize.batch_scope=document", "llm.backend=none"
    )
    found = LinkNER.from_pretrained(checkpoint).predict(TEXTS)
    assert found == expected
    assert {one.source for entities in found for one in entities} == {"local"}
    for text, entities in zip(TEXTS, found, strict=True):
        for one in entities:
            assert text[one.start : one.end] == one.text


def test_a_text_alone_has_the_entities_it_has_among_others(checkpoint):
    linkner = LinkNER.from_pretrained(checkpoint, recognize=DOCUMENT)
    assert [linkner.predict([text])[0] for text in TEXTS] == linkner.predict(TEXTS)


def test_no_texts_and_texts_without_words_have_no_entities(checkpoint):
    linkner = LinkNER.from_pretrained(checkpoint)
    assert linkner.predict([]) == []
    assert linkner.predict(["", " \n"]) == [[], []]


@pytest.mark.parametrize("as_config", [dict, lambda settings: LlmConfig(**settings)])
def test_an_llm_is_started_from_its_config_and_ended(checkpoint, server, tmp_path, as_config):
    settings = {"backend": "openai", "model": "m", "base_url": server.url}
    with LinkNER.from_pretrained(
        checkpoint,
        llm=as_config(settings),
        routing=RoutingConfig(threshold=0),
        cache={"path": str(tmp_path / "cache")},
    ) as linkner:
        found = linkner.predict(TEXTS[:1])
        asked = len(server.bodies)
        assert asked > 3
        assert linkner.predict(TEXTS[:1]) == found
        assert len(server.bodies) == asked  # the answer cache knows
    assert {one.source for one in found[0]} == {"llm", "same_name"}
    linkner.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"routing": {"treshold": 1}}, "did you mean 'routing.threshold'"),
        ({"routing": {"budget": "20 calls"}}, "counts the calls of a run"),
        ({"llm": {"backend": "openai", "model": "m"}}, "needs llm.base_url"),
        ({"llm": {"backend": "replay", "model": "m"}}, "takes its answers from"),
        ({"routing": {"never_ask": ["NOBODY"]}}, "NOBODY"),
    ],
)
def test_a_wrong_part_is_refused_with_its_name(checkpoint, options, message):
    with pytest.raises(ConfigError, match=message):
        LinkNER.from_pretrained(checkpoint, **options)


@pytest.mark.parametrize(
    ("texts", "kind", "message"),
    [
        ("Ada", TypeError, r"texts is one string, 'Ada'; put it in \[ \]"),
        (["Ada", None], TypeError, r"texts\[1\] is None, no str"),
        ([b"Ada"], TypeError, r"texts\[0\] is b'Ada', no str; decode it"),
        (["Ada", "\ud800"], ValueError, r"texts\[1\] is no text: .* surrogates not allowed; read"),
    ],
    ids=["one", "none", "bytes", "surrogate"],
)
def test_what_is_no_list_of_texts_is_refused(checkpoint, texts, kind, message):
    linkner = LinkNER.from_pretrained(checkpoint)
    with pytest.raises(kind, match=message):
        linkner.predict(texts)


def test_a_threshold_by_name_is_that_of_the_checkpoint(checkpoint, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    write_thresholds(folder, {5: 0.25})
    start_scripted(monkeypatch)
    llm = {"backend": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    by_name, by_number = (
        LinkNER.from_pretrained(str(folder), llm=llm, recognize=DOCUMENT, routing=routing).predict(
            TEXTS
        )
        for routing in ({"threshold_for": "asked=5%"}, {"threshold": 0.25})
    )
    assert by_name == by_number
    sources = {one.source for entities in by_name for one in entities}
    assert sources == {"local", "llm", "same_name"}
    with pytest.raises(ConfigError, match="choose one of asked=5%"):
        LinkNER.from_pretrained(str(folder), routing={"threshold_for": "asked=50%"})


def test_a_missing_checkpoint_is_named():
    with pytest.raises(ConfigError, match="no such folder"):
        LinkNER.from_pretrained("/nowhere")


def test_importing_the_package_loads_no_model_library():
    code = (
        "import sys, linkner_ray; "
        "print(sorted({'torch', 'transformers', 'pyarrow', 'ray', 'numpy'} & set(sys.modules))); "
        "print(linkner_ray.LinkNER.__name__, 'torch' in sys.modules, 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nLinkNER True False\n"


def test_an_unknown_name_is_an_attribute_error():
    import linkner_ray

    with pytest.raises(AttributeError, match="Linkner"):
        _ = linkner_ray.Linkner
