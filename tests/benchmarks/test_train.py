import json

import torch

from benchmarks import train
from benchmarks.workload import Workload
from linkner_ray.corpora.labelled import LabelledSentence, LabelledSpan
from tests.spanner import tiny

KEYS = {
    *("sentences", "words", "batch_size", "rounds"),
    *("load_average_before", "load_average_after", "ratio_step_to_bare_step"),
    *(
        f"{kind}_{name}_{dtype}"
        for kind in ("words_per_s", "best_words_per_s", "peak_memory_mib")
        for name in ("bare_step", "step")
        for dtype in ("float32", "bfloat16")
    ),
    *("ratio_step_to_bare_step_float32", "ratio_step_to_bare_step_bfloat16"),
}


def workload():
    sentences = (
        LabelledSentence(("Peter", "is", "in", "Paris"), (LabelledSpan(0, 1, "PER"),)),
        LabelledSentence(("Paris", "and", "London"), (LabelledSpan(0, 1, "UNKNOWN"),)),
        LabelledSentence(("nothing",)),
    )
    return Workload(name="tiny", sentences=sentences, model=tiny.model())


def test_every_key_and_weights_that_stay():
    work = workload()
    before = {name: value.clone() for name, value in work.model.state_dict().items()}
    numbers = train.run(work, batch_size=2, rounds=2)
    assert numbers.keys() == KEYS
    assert (numbers["sentences"], numbers["words"]) == (3, 8)
    assert numbers["ratio_step_to_bare_step"] > 1
    after = work.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_command_writes_and_prints(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(train, "load_workload", lambda _: workload())
    target = tmp_path / "numbers.json"
    numbers = train.main(["--rounds", "1", "--batch-size", "2", "--json", str(target)])
    assert json.loads(target.read_text()) == numbers
    printed = capsys.readouterr().out
    assert "| bare step float32 |" in printed
    assert "ratio_step_to_bare_step_float32" in printed
