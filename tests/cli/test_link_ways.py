"""`linkner link` compares ways of asking, and a run with the link asks in the best one."""

import json
import random

import pytest

from linkner_ray.cli import main
from linkner_ray.errors import StartupError
from linkner_ray.labels import NON_ENTITY
from linkner_ray.llm.backends.forms import decoding_of
from tests.crawl import write_parquet
from tests.fakes import ScriptedBackend
from tests.spanner import tiny

WORDS = ["ada", "paris", "the", "in", "saw", "lord", "of", "big"]
LLM = "llm.model=s3://models/some"


def write_conll(path, *, seed):
    """Sentences of which every other word is an entity, under any label.

    Returns:
        Label of each entity by its text and its place there.
    """
    rng, gold, lines = random.Random(seed), {}, []
    for number in range(120):
        tokens = [*rng.choices(WORDS, k=6), f"w{seed}n{number}"]
        start = 0
        for place, token in enumerate(tokens):
            label = rng.choice(tiny.LABELS.ids) if place % 2 else None
            if label is not None:
                gold[" ".join(tokens), start, start + len(token)] = label
            lines.append(f"{token}\t{f'B-{label}' if label else 'O'}")
            start += len(token) + 1
        lines.append("")
    path.write_text("\n".join(lines) + "\n")
    return gold


@pytest.fixture
def world(checkpoint, tmp_path, monkeypatch, capsys):
    return World(checkpoint, tmp_path, monkeypatch, capsys)


class World:
    """A dev set, a corpus of demonstrations, and an LLM that knows gold if it is asked so."""

    def __init__(self, checkpoint, folder, monkeypatch, capsys):
        self.checkpoint, self.folder, self._capsys = checkpoint, folder, capsys
        self.gold = write_conll(folder / "dev.conll", seed=0)
        write_conll(folder / "train.conll", seed=1)
        self.corpus = f"llm.demonstrations.corpus={folder}/train.conll"
        self.target = folder / "link.json"
        self.backends, self.said_before, self.broken = [], [], set()
        self.knows = lambda _form, _request: False
        monkeypatch.setattr("linkner_ray.llm.backends._llm", self._start)

    def _start(self, config, label_set, _on_rebuild):
        assert all(backend.is_closed for backend in self.backends)
        self.said_before.append(self._capsys.readouterr().out)
        if config.answer_form in self.broken:
            raise StartupError(f"no {config.answer_form} here")
        rng = random.Random(0)

        def reply(request):
            if self.knows(config.answer_form, request):
                return self.gold.get(tuple(request.question), NON_ENTITY)
            return rng.choice(label_set.classes)

        backend = ScriptedBackend(label_set, reply)
        backend.start = lambda: None
        backend.decoding = decoding_of(config, backend.symbols)
        self.backends.append(backend)
        return backend

    def link(self, *arguments):
        """Exit code, and what was printed."""
        self.backends.clear()
        self.said_before.clear()
        given = [self.checkpoint, f"{self.folder}/dev.conll", LLM, *arguments]
        code = main(["link", *map(str, given), "--output", str(self.target)])
        out, err = self._capsys.readouterr()
        return code, "".join(self.said_before) + out + err

    def asked(self):
        asked = json.loads(self.target.read_text())["asked"]
        return asked["answer_form"], asked["demonstrations"]["kind"]

    @property
    def num_questions(self):
        return sum(len(backend.requests) for backend in self.backends)

    def dry_run(self, *arguments):
        write_parquet(self.folder / "a.parquet", ["ada saw paris"])
        code = main([
            "extract", f"input.paths=[{self.folder}/a.parquet]", f"output.path={self.folder}/out",
            f"recognize.checkpoint={self.checkpoint}", f"routing.link={self.target}", LLM,
            *arguments, "--dry-run",
        ])  # fmt: skip
        out, err = self._capsys.readouterr()
        return code, out + err


def is_shown(kind, request):
    shown = {"random": request.fixed_demonstrations, "nearest": request.near_demonstrations}
    return bool(shown[kind]) if kind in shown else not any(shown.values())


@pytest.mark.parametrize(
    ("form", "kind"),
    [("symbol", "none"), ("name", "none"), ("symbol", "random"), ("name", "nearest")],
)
def test_the_way_in_which_the_llm_answers_well_is_chosen_and_a_run_asks_so(world, form, kind):
    world.knows = lambda asked_by, request: asked_by == form and is_shown(kind, request)

    code, said = world.link(world.corpus)

    assert code == 0
    assert world.asked() == (form, kind)
    assert "asks in the order of what an answer is expected to gain" in said
    [chosen] = [line for line in said.splitlines() if line.endswith("chosen |")]
    assert chosen.startswith(f"| {form} | {kind} | 100.0%")
    compared = json.loads(world.target.read_text())["compared"]
    assert len(compared) == 6
    code, config = world.dry_run()
    assert code == 0
    assert f"answer_form: {form}" in config
    assert f"kind: {kind}" in config
    other = "symbol" if form == "name" else "name"
    code, told = world.dry_run(f"llm.answer_form={other}")
    assert code == 2
    assert f"llm.answer_form was {form}, is {other}" in told


def test_of_ways_that_are_as_good_the_cheapest_is_taken(world):
    world.knows = lambda _form, _request: True

    world.link(world.corpus)

    compared = json.loads(world.target.read_text())["compared"]
    chosen = min(compared, key=lambda way: way["prompt_tokens"])
    assert world.asked() == (chosen["answer_form"], "none")


def test_an_llm_that_is_poor_in_all_ways_gives_a_link_that_asks_nobody(world):
    code, said = world.link(world.corpus)

    assert code == 0
    assert "asks nothing" in said
    assert len(json.loads(world.target.read_text())["compared"]) == 6


def test_the_cost_is_said_before_anybody_is_asked(world):
    world.link(world.corpus, "llm.price_per_million_tokens=1000")

    first = world.said_before[0].splitlines()
    trial, bill = first[0].split("; ")
    assert "in 6 ways that are compared" in trial
    tried = int(trial.split(" questions")[0].replace(",", ""))
    later = int(first[1].removeprefix("then at most ").split(" ")[0])
    assert 1_200 <= tried < 1_300
    assert tried / 6 + later > 600
    assert world.num_questions <= tried + later
    tokens = int(bill.split(" prompt tokens, price ")[0].replace(",", ""))
    assert float(bill.split("price ")[1]) == pytest.approx(tokens / 1000, abs=0.01)
    assert tokens > 50 * tried


def test_what_the_config_sets_is_not_compared(world):
    code, said = world.link(world.corpus, "llm.answer_form=name", "llm.demonstrations.kind=random")

    assert code == 0
    assert "compared" not in said
    assert world.asked() == ("name", "random")
    assert len(world.backends) == 1
    assert 600 < world.num_questions < 800


def test_a_form_in_which_the_llm_does_not_start_is_left_out(world, caplog):
    world.broken = {"symbol"}
    code, _ = world.link()
    assert code == 0
    assert world.asked() == ("name", "none")
    assert "llm.answer_form = symbol is left out: no symbol here" in caplog.text

    world.broken = {"symbol", "name"}
    code, said = world.link()
    assert code == 4
    assert "no symbol here" in said


def test_what_the_answer_cache_knows_is_not_asked_again(world):
    arguments = [f"cache.path={world.folder}/cache", "llm.answer_form=symbol"]
    world.link(*arguments)
    assert world.num_questions > 600
    first = world.target.read_bytes()

    _, said = world.link(*arguments)

    assert said.startswith("0 questions about ")
    assert world.num_questions == 0
    assert world.target.read_bytes() == first


def test_a_run_may_find_the_corpus_elsewhere(world):
    world.knows = lambda _form, request: is_shown("random", request)
    world.link(world.corpus)
    assert world.asked()[1] == "random"
    moved = world.folder / "moved.conll"
    (world.folder / "train.conll").rename(moved)

    assert world.dry_run()[0] == 2
    code, config = world.dry_run(f"llm.demonstrations.corpus={moved}")
    assert code == 0
    assert "kind: random" in config
    moved.write_text(moved.read_text() + "ada\tO\n\n")
    code, told = world.dry_run(f"llm.demonstrations.corpus={moved}")
    assert code == 2
    assert "llm.demonstrations was" in told


def test_an_llm_that_cannot_be_asked_so_is_refused(world):
    world.knows = lambda form, _request: form == "name"
    world.link()

    code, told = world.dry_run("llm.backend=openai", "llm.base_url=http://localhost:1")

    assert code == 2
    assert "was measured in a way that this run cannot ask in: " in told
    assert "llm.answer_form = 'name'" in told
