"""`linkner link`, and runs with what it made."""

import json
import random
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkner_ray.api import LinkNER
from linkner_ray.cli import main
from linkner_ray.schemas import DOCUMENTS
from tests.endpoint_server import GOOD, Server
from tests.spanner import tiny

WORDS = ["ada", "paris", "the", "in", "saw", "lord", "of", "big"]
NUM_SENTENCES = 120


@pytest.fixture(scope="module")
def sentences():
    """Tokens and entities; the name and the label of an entity have nothing to do with it."""
    rng = random.Random(0)
    made = []
    for number in range(NUM_SENTENCES):
        tokens = [*rng.choices(WORDS, k=6), f"w{number}"]
        first = rng.randrange(5)
        made.append((tokens, [[first, first + 1, rng.choice(tiny.LABELS.ids)]]))
    return made


@pytest.fixture(scope="module")
def dev(sentences, tmp_path_factory):
    path = tmp_path_factory.mktemp("dev") / "dev.conll"
    lines = []
    for tokens, [[first, _, label]] in sentences:
        tags = ["O"] * len(tokens)
        tags[first] = f"B-{label}"
        lines += [f"{token}\t{tag}" for token, tag in zip(tokens, tags, strict=True)] + [""]
    path.write_text("\n".join(lines) + "\n")
    return path


def recorded(path, sentences, entities_of):
    lines = [
        json.dumps({"index": index, "tokens": tokens, "entities": entities_of(entities)})
        for index, (tokens, entities) in enumerate(sentences)
    ]
    path.write_text("\n".join(lines) + "\n")
    return ["llm.backend=replay", "llm.model=recorded", f"llm.replay_path={path}"]


@pytest.fixture
def knows_all(sentences, tmp_path):
    return recorded(tmp_path / "all.jsonl", sentences, lambda entities: entities)


@pytest.fixture
def knows_nothing(sentences, tmp_path):
    return recorded(tmp_path / "nothing.jsonl", sentences, lambda _: [])


def link(*arguments):
    return main(["link", *map(str, arguments)])


def routes_of(checkpoint, llm, link_file, text, **routing):
    llm = dict(one.removeprefix("llm.").split("=", 1) for one in llm)
    routing = {"link": str(link_file), **routing}
    with LinkNER.from_pretrained(checkpoint, llm=llm, routing=routing) as linkner:
        found = linkner.run(documents(text))
    return found["routes"][0].as_py()


def documents(text):
    row = {"doc_id": "0", "url": None, "lang": None, "text": text}
    return pa.Table.from_pylist([row], schema=DOCUMENTS)


def test_an_llm_that_knows_all_is_asked_by_the_value_of_its_answers(
    checkpoint, dev, knows_all, sentences, tmp_path, capsys
):
    target = tmp_path / "link.json"

    assert link(checkpoint, dev, *knows_all, "--output", target) == 0
    said = capsys.readouterr().out
    text = " ".join(sentences[0][0])
    every = routes_of(checkpoint, knows_all, target, text, min_gain=1e-9)
    half = routes_of(checkpoint, knows_all, target, text, min_gain=1e-9, budget="50%")

    assert f"of {NUM_SENTENCES} sentences" in said
    assert "asks in the order of what an answer is expected to gain" in said
    assert f"routing.link={target}" in said
    assert every.count("llm") > 0
    assert half.count("llm") == min(every.count("llm"), len(half) // 2)
    assert {route for route, other in zip(half, every, strict=True) if other == "llm"} <= {
        "llm",
        "over_budget",
    }


def test_an_llm_that_gains_nothing_is_not_asked(
    checkpoint, dev, knows_nothing, sentences, tmp_path, capsys
):
    target = tmp_path / "link.json"

    assert link(checkpoint, dev, *knows_nothing, "--output", target) == 0
    text = " ".join(sentences[0][0])

    assert "asks nothing" in capsys.readouterr().out
    assert set(routes_of(checkpoint, knows_nothing, target, text)) == {"local"}


def test_a_link_of_another_llm_is_refused_with_the_difference(
    checkpoint, dev, knows_all, knows_nothing, tmp_path, capsys
):
    target = tmp_path / "link.json"
    link(checkpoint, dev, *knows_all, "--output", target)
    pq.write_table(documents("ada saw paris"), tmp_path / "a.parquet")
    run = [
        "extract", f"input.paths=[{tmp_path}/a.parquet]", f"output.path={tmp_path}/out",
        f"recognize.checkpoint={checkpoint}", f"routing.link={target}", "--dry-run",
    ]  # fmt: skip
    capsys.readouterr()

    assert main([*run, *knows_all]) == 0
    assert main([*run, *knows_nothing]) == 2
    told = capsys.readouterr().err
    assert "was measured on something else: llm's content was file-" in told
    assert main([*run, *knows_all, "llm.model=other"]) == 2
    assert "llm.model was recorded, is other" in capsys.readouterr().err
    assert main([*run, *knows_all, "routing.threshold=0.2"]) == 2
    assert "leave out one or the other" in capsys.readouterr().err
    for content in ("{}", "[]", "no JSON", '{"of": 1}', '{"of": {}, "linkner-link-1": []}'):
        target.write_text(content)
        assert main([*run, *knows_all]) == 2
        assert f"routing.link = {target}: is no link" in capsys.readouterr().err
    target.unlink()
    assert main([*run, *knows_all]) == 2
    assert f"routing.link = {target}: cannot be read" in capsys.readouterr().err


def test_only_a_link_is_overwritten(checkpoint, dev, knows_all, tmp_path, capsys):
    target = tmp_path / "notes.json"
    target.write_text("mine")

    assert link(checkpoint, dev, *knows_all, "--output", target) == 2
    assert "is no link" in capsys.readouterr().err
    assert target.read_text() == "mine"


@pytest.mark.parametrize("name", ["folder", "folder/", "new/"])
def test_a_folder_is_refused_before_a_question(checkpoint, dev, knows_all, tmp_path, capsys, name):
    (tmp_path / "folder").mkdir()

    assert link(checkpoint, dev, *knows_all, "--output", f"{tmp_path}/{name}") == 2
    said = capsys.readouterr()
    assert "is a folder; name a file" in said.err
    assert "questions" not in said.out


def test_a_sample_is_of_whole_sentences(checkpoint, dev, knows_all, tmp_path, capsys):
    arguments = [checkpoint, dev, *knows_all, "--output", tmp_path / "link.json"]

    assert link(*arguments, "questions=60") == 0
    asked = int(capsys.readouterr().out.split(" questions", maxsplit=1)[0])

    assert 60 <= asked < 100


def test_without_an_llm_there_is_nothing_to_link(checkpoint, dev, tmp_path, capsys):
    arguments = [checkpoint, dev, "llm.backend=none", "--output", tmp_path / "link.json"]

    assert link(*arguments) == 2
    assert "asks nobody" in capsys.readouterr().err


def test_ctrl_c_keeps_the_answers_there_are_and_the_same_command_asks_the_rest(
    checkpoint, dev, tmp_path
):
    server = Server()
    kept = tmp_path / "cache"
    # Those of the start, and a first part of the questions.
    server.reply = lambda number, _: (time.sleep(0 if number < 200 else 300), GOOD)[1]
    llm = ["llm.backend=openai", f"llm.base_url={server.url}", "llm.model=slow"]
    arguments = [
        *("link", str(checkpoint), str(dev), *llm, f"cache.path={kept}"),
        *("--output", str(tmp_path / "link.json")),
    ]
    script = (
        "import sys\n"
        "from linkner_ray.evaluation import ways_of_asking\n"
        "ways_of_asking.ASKED_TOGETHER = 40\n"
        "from linkner_ray.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE, text=True
    )
    while len(list(kept.glob("*.parquet"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.endswith(
        f"\nlinkner: stopped by Ctrl-C: answers so far are kept in {kept}; the same command asks "
        "the rest\n"
    )
    assert not (tmp_path / "link.json").exists()
    asked = len(server.bodies)
    server.reply = lambda *_: GOOD
    assert main(arguments) == 0
    answers = json.loads((tmp_path / "link.json").read_text())
    assert len(server.bodies) - asked < answers["linkner-link-1"]["num_answers"] - 40
    server.close()
