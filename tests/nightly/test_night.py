"""A night from its self-check to `latest`; killed in each step, started twice, held back.

All of it but Ray; `test_a_night_on_ray` is a process as a user starts it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import linkner_ray.nightly.night
from linkner_ray.cli import main
from linkner_ray.config import NightlyConfig
from linkner_ray.config.loading import load_config
from linkner_ray.errors import ConfigError, DataError, StartupError
from linkner_ray.extract.progress import LineView
from linkner_ray.nightly.drift import Drift, host_of
from linkner_ray.nightly.night import run_night
from linkner_ray.runs.lock import OutputLock
from linkner_ray.runs.manifest import verify_output
from linkner_ray.spanner.self_check import record_self_check
from linkner_ray.storage import Folder
from tests.crawl import overrides, text_of
from tests.in_process import status_of_child
from tests.local_pipeline import run_here
from tests.spanner import tiny

ROOT = Path(__file__).parent.parent.parent
MONDAY, TUESDAY, WEDNESDAY = "2026-11-23", "2026-11-24", "2026-11-25"
HOSTS = ("a.org", "b.org")


@pytest.fixture(autouse=True)
def without_ray(request, monkeypatch):
    if "ray" not in request.keywords:
        monkeypatch.setattr("linkner_ray.extract.job.run_extraction", run_here)
        monkeypatch.setattr(linkner_ray.nightly.night, "start_ray", lambda: None)
        # They are four fifths of so small a night's time; the night on Ray draws them.
        monkeypatch.setattr("linkner_ray.reporting.run_report._pictures", lambda _run: {})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    model = tiny.model(max_width=3)
    model.save_pretrained(folder)
    record_self_check(model, tiny.sentences(3)).write(folder)
    return str(folder)


def write_crawl(folder, texts, *, first=0):
    """Pages of two hosts and two languages in one shard."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "doc_id": [f"p{first + index}" for index in range(len(texts))],
        "url": [f"https://{HOSTS[index % 2]}/{index}" for index in range(len(texts))],
        "lang": [("en", "de")[index % 2] for index in range(len(texts))],
        "text": texts,
    }
    pq.write_table(pa.table(columns), folder / f"{first:03}.parquet", row_group_size=5)
    return folder


@pytest.fixture
def crawl(tmp_path):
    return write_crawl(tmp_path / "crawl", [text_of(number) for number in range(12)])


def config_of(crawl, nights, checkpoint, name, *more):
    return load_config(
        NightlyConfig,
        None,
        [*overrides(crawl, nights, checkpoint), f"night.name={name}", "drift.min_count=10", *more],
    )


def latest_of(nights):
    return (nights / "latest").read_text()


def test_a_night_may_name_its_threshold(crawl, tmp_path):
    named = config_of(crawl, tmp_path, "/nowhere", MONDAY, "routing.threshold_for=asked=5%")
    night = named.extraction()
    assert night.routing.threshold_for == "asked=5%"
    assert night.output.path == str(tmp_path / MONDAY)
    numbered = config_of(crawl, tmp_path, "/nowhere", MONDAY, "routing.threshold=0.3").extraction()
    assert (numbered.routing.threshold, numbered.routing.threshold_for) == (0.3, None)


def test_the_first_night_is_full_and_becomes_the_latest(crawl, checkpoint, tmp_path):
    nights = tmp_path / "nights"
    result = run_night(config_of(crawl, nights, checkpoint, MONDAY))
    assert result.has_moved
    assert latest_of(nights) == f"{MONDAY}\n"
    record = json.loads((nights / MONDAY / "night.json").read_text())
    assert record["previous"] is record["diff"] is record["drift"] is None
    assert record["self_check_sentences"] == 3
    assert record["estimate"]["documents"] == 12
    assert set(record["seconds"]) >= {"self_check", "plan", "extract", "verify"}
    page = (nights / MONDAY / "night.md").read_text()
    assert "no earlier night" in page
    assert "3 sentences as where it was trained" in page
    assert verify_output(Folder.at(str(nights / MONDAY)))[1] == []
    rows = pq.read_table(nights / MONDAY / "entities", columns=["lang"])
    assert set(rows["lang"].to_pylist()) == {"en", "de"}


def test_the_second_night_builds_on_the_first(crawl, checkpoint, tmp_path):
    nights = tmp_path / "nights"
    run_night(config_of(crawl, nights, checkpoint, MONDAY))
    write_crawl(crawl, [text_of(number) for number in range(80, 83)], first=80)
    lines = []
    result = run_night(config_of(crawl, nights, checkpoint, TUESDAY), view=LineView(lines.append))
    assert latest_of(nights) == f"{TUESDAY}\n"
    output = nights / TUESDAY
    record = json.loads((output / "night.json").read_text())
    assert record["previous"] == f"{nights}/{MONDAY}"
    assert record["costs"]["documents_reused"] == 12
    assert record["costs"]["redone_text_new"] == 3
    assert record["diff"]["documents"]["same_text"] == 12
    assert record["diff"]["documents"]["only_after"] == 3
    assert record["diff"] == json.loads((output / "diff.json").read_text())
    assert "<html" in (output / "diff.html").read_text()
    groups = {(one["kind"], one["name"]) for one in record["drift"]["drifts"]}
    assert groups == {
        ("overall", ""), ("host", "a.org"), ("host", "b.org"), ("language", "en"),
        ("language", "de"),
    }  # fmt: skip
    assert result.record["drift"]["verdict"] in {"stable", "warn"}
    page = (output / "night.md").read_text()
    assert "12 reused, 3 redone (new or edited text)" in page
    assert "| host a.org | labels |" in page
    assert verify_output(Folder.at(str(output)))[1] == []
    assert any("incremental on" in line for line in lines)


def test_a_night_that_ended_does_nothing_when_it_is_started_again(
    crawl, checkpoint, tmp_path, monkeypatch, capsys
):
    nights = tmp_path / "nights"
    run_night(config_of(crawl, nights, checkpoint, MONDAY))
    before = {p: p.read_bytes() for p in nights.rglob("*") if p.is_file()}
    for name in ("run_self_check_of", "check_limits", "extract", "start_ray"):
        monkeypatch.delattr(linkner_ray.nightly.night, name)
    command = [*overrides(crawl, nights, checkpoint), f"night.name={MONDAY}"]
    assert main(["nightly", *command, "--json", "-"]) == 0
    said = capsys.readouterr()
    assert "nothing to do" in said.err
    assert json.loads(said.out)["did_nothing"]
    assert {p: p.read_bytes() for p in nights.rglob("*") if p.is_file()} == before


STEPS = (
    "run_self_check_of", "check_limits", "open_previous", "_verify", "compare_runs",
    "measure_drift",
    "write_run_report", "write_record", "move_latest",
)  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_a_night_killed_in_any_step_goes_on_when_it_is_started_again(
    crawl, checkpoint, tmp_path, monkeypatch, step
):
    nights = tmp_path / "nights"
    run_night(config_of(crawl, nights, checkpoint, MONDAY))
    config = config_of(crawl, nights, checkpoint, TUESDAY)

    def killed():
        def die(*_args, **_options):
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(linkner_ray.nightly.night, step, die)
        run_night(config)

    assert status_of_child(killed) == -signal.SIGKILL
    assert latest_of(nights) == f"{MONDAY}\n"
    assert run_night(config).has_moved
    assert latest_of(nights) == f"{TUESDAY}\n"
    record = json.loads((nights / TUESDAY / "night.json").read_text())
    assert record["previous"] == f"{nights}/{MONDAY}"
    assert record["diff"]["documents"]["same_text"] == 12
    assert (nights / TUESDAY / "report.md").exists()
    assert verify_output(Folder.at(str(nights / TUESDAY)))[1] == []
    assert list((nights / "_lock").iterdir()) == []


def drifting(crawl):
    """The next night is about something else altogether."""
    for shard in crawl.iterdir():
        shard.unlink()
    write_crawl(crawl, ["Thursday boycott lamb cities . " * 4] * 30)


def test_a_drift_alert_keeps_latest_where_it_is_until_somebody_accepts_it(
    crawl, checkpoint, tmp_path, capsys
):
    nights = tmp_path / "nights"
    run_night(config_of(crawl, nights, checkpoint, MONDAY))
    drifting(crawl)
    tonight = [
        "nightly", *overrides(crawl, nights, checkpoint), f"night.name={TUESDAY}",
        "drift.min_count=10",
    ]  # fmt: skip
    for _ in range(2):
        assert main(tonight) == 3
        error = capsys.readouterr().err
        assert "PSI" in error
        assert "night.accept_drift=true" in error
        assert latest_of(nights) == f"{MONDAY}\n"
    assert "Held back" in (nights / TUESDAY / "night.md").read_text()
    record = json.loads((nights / TUESDAY / "night.json").read_text())
    assert record["publish"] is False
    assert record["drift"]["verdict"] == "alert"
    # The next night is still compared with the last one that was good.
    next_night = run_night(config_of(crawl, nights, checkpoint, WEDNESDAY))
    assert next_night.record["previous"].endswith(MONDAY)
    assert next_night.alerts
    assert main([*tonight, "night.accept_drift=true"]) == 0
    assert latest_of(nights) == f"{TUESDAY}\n"
    record = json.loads((nights / TUESDAY / "night.json").read_text())
    assert record["accepted_drift"]
    assert "self_check_sentences" not in record  # nothing was done anew


def test_a_host_in_an_alert_does_not_act_on_a_terminal():
    drift = Drift(
        kind="host", name=host_of("https://a\x9b31mb.org/"), measure="labels", psi=1.0,
        count_before=9, count_after=9, verdict="alert",
    )  # fmt: skip
    said = linkner_ray.nightly.night._describe_alert(drift)
    assert "\x9b" in drift.name
    assert said.isprintable()
    assert said.endswith("31mb.org: PSI 1.000")


@pytest.mark.parametrize(
    ("setting", "verdict", "said"),
    [
        ("drift.alert=100", "warn", "| warn |"),
        ("drift.min_count=1000000", "few", "Too few candidates for a verdict"),
    ],
)
def test_less_than_an_alert_is_reported_and_the_night_published(
    crawl, checkpoint, tmp_path, setting, verdict, said
):
    nights = tmp_path / "nights"
    run_night(config_of(crawl, nights, checkpoint, MONDAY))
    drifting(crawl)
    result = run_night(config_of(crawl, nights, checkpoint, TUESDAY, setting))
    assert result.has_moved
    assert result.record["drift"]["verdict"] == verdict
    assert said in (nights / TUESDAY / "night.md").read_text()


def test_a_night_over_its_error_limits_is_kept_and_not_published(
    crawl, checkpoint, tmp_path, capsys
):
    write_crawl(crawl, [None, text_of(70)], first=70)
    command = [*overrides(crawl, tmp_path / "n", checkpoint), f"night.name={MONDAY}"]
    assert main(["nightly", *command, "errors.max_share=0"]) == 3
    assert "errors.max_share" in capsys.readouterr().err
    assert (tmp_path / "n" / MONDAY / "_SUCCESS").exists()
    assert not (tmp_path / "n" / "latest").exists()
    assert main(["nightly", *command]) == 0
    assert latest_of(tmp_path / "n") == f"{MONDAY}\n"


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("night.max_questions=3", "over night.max_questions = 3"),
        ("night.max_encoder_hours=1e-9", "over night.max_encoder_hours"),
    ],
)
def test_a_night_whose_estimate_is_over_a_limit_is_not_started(
    crawl, checkpoint, tmp_path, limit, message
):
    llm = ["llm.backend=openai", "llm.model=m", "llm.base_url=http://127.0.0.1:9/v1"]
    config = config_of(crawl, tmp_path / "n", checkpoint, MONDAY, *llm, limit)
    with pytest.raises(ConfigError, match=message):
        run_night(config)
    assert not (tmp_path / "n" / MONDAY).exists()


def test_a_checkpoint_that_answers_otherwise_starts_no_night(crawl, tmp_path):
    model = tiny.model(max_width=3)
    self_check = record_self_check(model, tiny.sentences(3))
    model.head.output.bias.data += 1.0 * (1 - 2 * (model.head.output.bias.data > 0).float())
    model.head.output.weight.data *= 3
    model.save_pretrained(tmp_path / "checkpoint")
    self_check.write(tmp_path / "checkpoint")
    with pytest.raises(StartupError, match="does not answer as it did"):
        run_night(config_of(crawl, tmp_path / "n", str(tmp_path / "checkpoint"), MONDAY))
    assert not (tmp_path / "n" / MONDAY).exists()


def test_a_damaged_night_is_not_published(crawl, checkpoint, tmp_path, monkeypatch):
    nights = tmp_path / "nights"

    def extract_and_lose_a_file(*args, **options):
        result = extract(*args, **options)
        next((nights / MONDAY / "candidates").iterdir()).unlink()
        return result

    extract = linkner_ray.nightly.night.extract
    monkeypatch.setattr(linkner_ray.nightly.night, "extract", extract_and_lose_a_file)
    with pytest.raises(DataError, match="listed but missing"):
        run_night(config_of(crawl, nights, checkpoint, MONDAY))
    assert not (nights / "latest").exists()


def test_while_one_runs_no_other_starts(crawl, checkpoint, tmp_path):
    nights = tmp_path / "nights"
    with OutputLock(Folder.at(str(nights)), url=str(nights), timeout_s=60, say=print):
        for name in (MONDAY, TUESDAY):
            with pytest.raises(ConfigError, match=f"process {os.getpid()} since"):
                run_night(config_of(crawl, nights, checkpoint, name))
    assert not (nights / MONDAY).exists()


def test_a_published_night_takes_no_further_shards(crawl, checkpoint, tmp_path):
    nights = tmp_path / "nights"
    config = config_of(crawl, nights, checkpoint, MONDAY)
    run_night(config)
    write_crawl(crawl, [text_of(90)], first=90)
    with pytest.raises(ConfigError, match="more shards"):
        run_night(config)
    assert (nights / MONDAY / "_SUCCESS").exists()


def test_an_older_night_that_ends_late_does_not_become_the_latest(crawl, checkpoint, tmp_path):
    nights = tmp_path / "nights"
    run_night(config_of(crawl, nights, checkpoint, TUESDAY))
    late = run_night(config_of(crawl, nights, checkpoint, MONDAY))
    assert late.record["publish"]
    assert not late.has_moved
    assert latest_of(nights) == f"{TUESDAY}\n"
    (nights / TUESDAY / "night.json").write_text('{"ni')
    with pytest.raises(DataError, match=r"night.json is damaged, .*; remove it"):
        run_night(config_of(crawl, nights, checkpoint, TUESDAY))


def test_a_night_of_other_tables_is_not_built_on_and_that_is_said(crawl, checkpoint, tmp_path):
    nights = tmp_path / "nights"
    run_night(config_of(crawl, nights, checkpoint, MONDAY))
    run = json.loads((nights / MONDAY / "_run.json").read_text())
    run["plan"]["schema_version"] -= 1
    (nights / MONDAY / "_run.json").write_text(json.dumps(run))
    result = run_night(config_of(crawl, nights, checkpoint, TUESDAY))
    assert result.has_moved
    assert "documents_reused" not in result.record["costs"]
    assert "has tables of version" in (nights / TUESDAY / "night.md").read_text()


def test_latest_that_names_no_night_is_refused(crawl, checkpoint, tmp_path):
    nights = tmp_path / "nights"
    nights.mkdir()
    (nights / "latest").write_text("yesterday\n")
    with pytest.raises(ConfigError, match="names 'yesterday', which is no date"):
        run_night(config_of(crawl, nights, checkpoint, MONDAY))
    (nights / "latest").write_text("2026-11-01\n")
    with pytest.raises(ConfigError, match="is not the output of a run"):
        run_night(config_of(crawl, nights, checkpoint, MONDAY))


def test_a_dry_run_says_what_the_night_would_build_on_and_writes_nothing(
    crawl, checkpoint, tmp_path, capsys
):
    nights = tmp_path / "nights"
    run_night(config_of(crawl, nights, checkpoint, MONDAY))
    command = [*overrides(crawl, nights, checkpoint), f"night.name={TUESDAY}", "--dry-run"]
    assert main(["nightly", *command]) == 0
    said = capsys.readouterr().out
    assert f"incremental on {nights}/{MONDAY}: 12 documents" in said
    assert not (nights / TUESDAY).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("output.keep_candidates=false", "set output.keep_candidates = true"),
        ("night.max_llm_hours=1", "needs routing.requests_per_s"),
        ("night.name=tonight", "night.name"),
    ],
)
def test_a_wrong_night_is_refused(crawl, checkpoint, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        config_of(crawl, tmp_path / "n", checkpoint, MONDAY, change)


def test_nights_on_s3(s3, crawl, checkpoint):
    import s3fs

    store = s3fs.S3FileSystem(endpoint_url=s3["AWS_ENDPOINT_URL"], key="test", secret="test")
    store.mkdir("bucket")
    run_night(config_of(crawl, "s3://bucket/nights", checkpoint, MONDAY))
    write_crawl(crawl, [text_of(90)], first=90)
    result = run_night(config_of(crawl, "s3://bucket/nights", checkpoint, TUESDAY))
    assert result.record["costs"]["documents_reused"] == 12
    store.invalidate_cache()
    assert store.cat_file("bucket/nights/latest") == f"{TUESDAY}\n".encode()
    assert store.exists(f"bucket/nights/{TUESDAY}/diff.html")
    assert run_night(config_of(crawl, "s3://bucket/nights", checkpoint, TUESDAY)).did_nothing


@pytest.mark.ray
@pytest.mark.filterwarnings("default")
def test_a_night_on_ray(crawl, checkpoint, tmp_path):
    """Stopped by SIGTERM while it extracts, both locks go; the same command then ends it."""
    nights = tmp_path / "nights"
    config = {"LINKNER_NIGHT": MONDAY, "LINKNER_INPUT": str(crawl), "LINKNER_OUTPUT": str(nights)}
    command = [
        sys.executable, str(ROOT / "jobs/nightly.py"), "--config",
        str(ROOT / "jobs/configs/nightly.yaml"), f"recognize.checkpoint={checkpoint}",
        "llm.backend=none", "recognize.num_threads=1",
    ]  # fmt: skip
    environment = {**os.environ, **config}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not (nights / MONDAY / "_run.json").exists():  # the first thing an extraction writes
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 143, errors
    assert "stopped by SIGTERM" in errors
    assert not list((nights / "_lock").iterdir())
    assert not list((nights / MONDAY / "_lock").iterdir())
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"latest names {MONDAY}" in done.stdout
    assert latest_of(nights) == f"{MONDAY}\n"
    page = (nights / MONDAY / "report.md").read_text()
    pictures = {path.name for path in (nights / MONDAY / "plots").iterdir()}
    assert pictures >= {"entities_by_source.png", "timeline.png"}
    assert [name for name in pictures if f"plots/{name}" not in page] == []
