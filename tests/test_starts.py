"""What a start loads, each in an interpreter of its own."""

import ast
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from linkner_ray.config import ExtractConfig, NightlyConfig
from linkner_ray.config.loading import load_config
from linkner_ray.extract.plan import plan_extraction
from linkner_ray.nightly.publication import move_latest, write_record
from linkner_ray.spanner.self_check import choose_sentences, record_self_check
from linkner_ray.storage import Folder
from tests.in_process import extract_in_process
from tests.spanner import tiny

SCORING = {"sklearn", "scipy", "pandas"}
MODEL = {"torch", "transformers", "ray", "vllm"}
OF_TRANSFORMERS = {"transformers", "torch._dynamo", "torch.distributed.tensor", "sympy"}
PICTURES = {"matplotlib", "jinja2"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starts") / "checkpoint"
    model = tiny.model()
    model.save_pretrained(folder)
    record_self_check(model, choose_sentences(tiny.sentences(4))).write(folder)
    return folder


def loaded(code, names):
    """Which of some modules a fresh interpreter has after some code."""
    script = (
        f"import json, sys\n{code}\n"
        f"sys.stderr.write('LOADED' + json.dumps(sorted({names!r} & set(sys.modules))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "LINKNER_SELF_CHECKS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "LOADED" in done.stderr, done.stderr
    return set(json.loads(done.stderr.rpartition("LOADED")[2]))


def command(*words, exit_code=0):
    return f"from linkner_ray.cli.app import main\nassert main({list(words)!r}) == {exit_code}"


def test_help_reads_no_config_class_and_loads_nothing_of_weight():
    heavy = MODEL | SCORING | PICTURES | {"pydantic", "pyarrow", "numpy", "fsspec"}
    assert loaded(command("--help"), heavy) == set()


WITHOUT_NAME = """
import os, pathlib, pwd
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
for name in ("HOME", "LNAME", "LOGNAME", "USER", "USERNAME"):
    os.environ.pop(name, None)
from linkner_ray.runs.lock import _this_process
_this_process(1.0)
"""


def test_a_user_id_without_name_and_home_can_start():
    # As under OpenShift or `runAsUser`; modules of Ray Train call Path.home when imported.
    code = f"{WITHOUT_NAME}\n{command('--help')}\npathlib.Path.home()"
    assert loaded(code, {"getpass", "torch"}) == set()


OF_THE_USER = {"cwd", "expanduser", "getcwd", "gettempdir", "getuid", "getuser", "home", "mkdir"}


def test_no_module_asks_for_user_or_folders_when_it_is_imported():
    asked = []
    for path in (Path(__file__).parent.parent / "linkner_ray").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            calls = (n.func for n in ast.walk(node) if isinstance(n, ast.Call))
            names = {getattr(call, "attr", getattr(call, "id", "")) for call in calls}
            asked += [f"{path.name}: {name}" for name in names & OF_THE_USER]
    assert asked == []


def test_a_plan_is_shown_without_model_library_ray_or_pictures(checkpoint, tmp_path):
    (tmp_path / "crawl.jsonl").write_text('{"text": "Peter met Angela."}\n')
    words = (
        *("extract", "--dry-run", f"input.paths=[{tmp_path}/crawl.jsonl]", "llm.backend=none"),
        *(f"output.path={tmp_path}/out", f"recognize.checkpoint={checkpoint}"),
    )
    assert loaded(command(*words), MODEL | SCORING | PICTURES) == set()


@pytest.mark.parametrize("name", ["extract", "nightly"])
def test_what_has_ended_is_told_without_model_library_or_ray(
    name, checkpoint, tmp_path, monkeypatch
):
    (tmp_path / "crawl.jsonl").write_text('{"text": "Peter met Angela."}\n')
    words = [
        *(f"input.paths=[{tmp_path}/crawl.jsonl]", "llm.backend=none"),
        *(f"output.path={tmp_path}/out", f"recognize.checkpoint={checkpoint}"),
    ]
    if name == "extract":
        plan = plan_extraction(load_config(ExtractConfig, None, words))
    else:
        words += ["night.name=2026-11-23", "output.keep_candidates=true"]
        plan = plan_extraction(load_config(NightlyConfig, None, words).extraction())
        record = {"publish": True, "night": "2026-11-23"}
        write_record(Folder.at(plan.config.output.path), record)
        move_latest(Folder.at(str(tmp_path / "out")), date(2026, 11, 23))
    extract_in_process(monkeypatch, plan)
    assert loaded(command(name, *words), MODEL | SCORING | PICTURES) == set()


def test_predict_loads_torch_and_neither_transformers_nor_what_scores(checkpoint):
    words = ("predict", str(checkpoint), "Peter met Angela Merkel in Berlin.")
    assert loaded(command(*words), SCORING | OF_TRANSFORMERS | MODEL) == {"torch"}


def test_what_is_wrong_with_paths_is_told_without_model_library_or_ray(checkpoint, tmp_path):
    train = (
        *("train", "corpus.label_set=conll03", f"output.checkpoint={tmp_path}/checkpoint"),
        *(f"output.storage={tmp_path}/storage", "corpus.train=nowhere", "corpus.dev=nowhere"),
    )
    wrong = [train, ("predict", "nowhere", "text"), ("calibrate", str(checkpoint), "nowhere")]
    code = "\n".join(command(*words, exit_code=2) for words in wrong)
    assert loaded(code, MODEL | SCORING | PICTURES) == set()


@pytest.mark.soak
def test_predict_with_another_encoder_loads_transformers_and_hides_no_pandas_from_it(tmp_path):
    tiny.model("modernbert").save_pretrained(tmp_path)
    words = ("predict", str(tmp_path), "Peter met Angela Merkel in Berlin.")
    found = loaded(command(*words), {"transformers", "pandas"})
    assert found == {"transformers", "pandas"}


def test_arrow_finds_pandas_again_once_a_command_is_over():
    code = (
        "from linkner_ray.cli.predict_text import without_pandas\n"
        "import pyarrow as pa\n"
        "with without_pandas():\n"
        "    assert pa.array(['a']).to_pylist() == ['a']\n"
        "assert 'pandas' not in sys.modules\n"
        "assert pa.table({'a': [1]}).to_pandas()['a'].tolist() == [1]"
    )
    assert loaded(code, {"pandas"}) == {"pandas"}


ENCODER = """
from linkner_ray.config import RecognizeConfig
from linkner_ray.stages.recognize_spans import RecognizeSpans
RecognizeSpans(RecognizeConfig(checkpoint={folder!r}))
"""


def test_an_encoder_loads_neither_transformers_nor_what_scores(checkpoint):
    found = loaded(ENCODER.format(folder=str(checkpoint)), SCORING | OF_TRANSFORMERS)
    assert found == set()


@pytest.mark.ray
@pytest.mark.usefixtures("two_cpus")
def test_an_encoder_actor_of_ray_adds_nothing_but_what_ray_data_loads_itself(checkpoint):
    import ray

    @ray.remote(num_cpus=1)
    def modules(folder):
        import linkner_ray.extract.pipeline  # noqa: F401 - as the pickled stage of a run does
        from linkner_ray.config import RecognizeConfig
        from linkner_ray.stages.recognize_spans import RecognizeSpans

        RecognizeSpans(RecognizeConfig(checkpoint=folder))
        return (SCORING | OF_TRANSFORMERS) & set(sys.modules)

    @ray.remote(num_cpus=1)
    def of_ray():
        import ray.data  # noqa: F401

        return SCORING & set(sys.modules)

    assert ray.get(of_ray.remote()) == {"pandas"}
    assert ray.get(modules.remote(str(checkpoint))) == {"pandas"}
