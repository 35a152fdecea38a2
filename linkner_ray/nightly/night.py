"""A night: self-check, plan, incremental extraction, verification, diff, drift, report, `latest`.

Each night is a folder below `output.path` and builds on the night that `latest` names. `latest` is
moved last, and only to a night that is whole and whose drift is no alert, so its readers always
have a good night. After a crash in any step the same command goes on: extraction from its finished
units, all later steps from their beginning, since they only read and overwrite.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from linkner_ray.config import NightlyConfig
from linkner_ray.errors import DataError, hide_secrets
from linkner_ray.extract.job import extract
from linkner_ray.extract.plan import Plan, plan_extraction
from linkner_ray.extract.progress import LineView, View
from linkner_ray.extract.ray_start import start_ray
from linkner_ray.extract.report import write_run_report
from linkner_ray.extract.result import ExtractionResult, find_finished
from linkner_ray.extract.reuse_report import describe_previous
from linkner_ray.extract.spread import BySize
from linkner_ray.nightly.checks import check_limits, run_self_check_of
from linkner_ray.nightly.diff import Diff, compare_runs
from linkner_ray.nightly.diff_page import render_diff
from linkner_ray.nightly.drift import Drift, DriftReport, measure_drift
from linkner_ray.nightly.publication import (
    NightResult,
    move_latest,
    publish_again,
    read_latest,
    read_record,
    write_record,
)
from linkner_ray.nightly.report import describe_night
from linkner_ray.reporting.visible import make_visible
from linkner_ray.runs.code_version import code_version
from linkner_ray.runs.finished import FinishedRun
from linkner_ray.runs.lock import OutputLock
from linkner_ray.runs.manifest import as_json, verify_output
from linkner_ray.runs.previous import PreviousRun, open_previous
from linkner_ray.runs.shutdown import Shutdown, exit_on_signal
from linkner_ray.schemas import SCHEMA_VERSION
from linkner_ray.storage import Folder

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Night:
    """A night at work; what its steps find goes into the record."""

    config: NightlyConfig
    plan: Plan
    nights: Folder
    view: View
    previous: str | None = None
    """Folder of the night that `latest` names."""

    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def output(self) -> Folder:
        return Folder.at(self.plan.config.output.path)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say that a step begins, and keep its seconds."""
        self.view.say(f"{self.config.night.name}: {name}")
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)


def run_night(
    config: NightlyConfig,
    *,
    plan: Plan | None = None,
    view: View = LineView(logger.info),  # noqa: B008 - holds nothing
    shutdown: Shutdown | None = None,
) -> NightResult:
    """Run a night to its end, from wherever an earlier start of it stopped.

    Args:
        config: The night, its extraction and its bounds.
        plan: Of the extraction, if it is known already.
        view: Told of each step, and shown how far extraction is every few seconds.
        shutdown: Told how to end at a signal; given by a main thread only.

    Raises:
        ConfigError: If the config is wrong, a limit would be passed, the night is published and its
            input has changed since, or another night is running.
        DataError: If the output is not what its manifest says.
        LinknerError: What a step raised.
    """
    night = _Night(
        config=config,
        plan=plan or plan_extraction(config.extraction()),
        nights=Folder.at(config.output.path),
        view=view,
    )
    timeout_s = config.output.lock_timeout_s
    lock = OutputLock(night.nights, url=config.output.path, timeout_s=timeout_s, say=view.say)
    if shutdown is not None:
        shutdown.end = lambda: _let_go(lock, "the same command goes on")
    with lock:
        done = find_finished(night.plan) is not None
        record = read_record(night.output)
        latest = read_latest(night.nights)
        if latest == config.night.name or (record is not None and record["publish"]):
            return publish_again(config, night.plan, record, is_done=done)
        if latest is not None:
            night.previous = config.folder_of(latest)
        return _run_alone(night, lock, is_done=done, shutdown=shutdown)


def describe_start(config: NightlyConfig, plan: Plan) -> str:
    """What a night would build on, before anything starts; nothing is written."""
    nights = Folder.at(config.output.path)
    night = _Night(config=config, plan=plan, nights=nights, view=LineView(logger.info))
    latest = read_latest(night.nights)
    if latest is None or latest == config.night.name:
        return "full: there is no earlier night to build on" if latest is None else "published"
    night.previous = config.folder_of(latest)
    previous = _open_previous(night)
    return "\n".join(
        [*night.notes, *([describe_previous(previous)] if previous is not None else [])]
    )


def _let_go(lock: OutputLock, sentence: str) -> str:
    lock.release()
    return sentence


def _run_alone(
    night: _Night, lock: OutputLock, *, is_done: bool, shutdown: Shutdown | None
) -> NightResult:
    """The steps, under the lock of the folder of all nights."""
    config = night.config
    checks: dict[str, Any] = {}
    if is_done:
        night.notes.append("Extraction had ended before this start.")
    else:
        with night.step("self_check"):
            checks["self_check_sentences"] = run_self_check_of(
                night.plan.config.recognize, night.notes
            )
        with night.step("plan"):
            checks["estimate"] = asdict(check_limits(night.plan, config))
    with night.step("extract"):
        result = extract(night.plan) if is_done else _extract(night, lock, shutdown)
    with night.step("verify"):
        checks["verified_files"] = _verify(night.output)
    diff, drift = _compare(night)
    alerts = () if drift is None else tuple(map(_describe_alert, drift.alerts))
    held = bool(result.problems) or bool(alerts and not config.night.accept_drift)
    record = {
        "night": config.night.name.isoformat(),
        "previous": night.previous and hide_secrets(night.previous),
        "plan": night.plan.digest,
        "code": code_version(),
        **checks,
        "totals": dict(result.totals),
        "costs": dict(result.costs),
        "diff": None if diff is None else diff.as_json(),
        "drift": None if drift is None else drift.as_json(),
        "accepted_drift": list(alerts) if not held else [],
        "problems": list(result.problems),
        "notes": [hide_secrets(note) for note in night.notes],
        "seconds": night.seconds,
        "publish": not held,
    }
    with night.step("report"):
        _report(night, record, result)
    has_moved = False
    if not held:
        lock.confirm()
        has_moved = move_latest(night.nights, config.night.name)
    return NightResult(
        output=night.plan.config.output.path,
        record=record,
        has_moved=has_moved,
        problems=result.problems,
        alerts=alerts if held else (),
    )


def _extract(night: _Night, lock: OutputLock, shutdown: Shutdown | None) -> ExtractionResult:
    """Extraction on top of the night before, as far as that can be reused."""
    previous = _open_previous(night)
    if previous is not None:
        night.view.say(describe_previous(previous))
    start_ray()
    if shutdown is None:
        return extract(night.plan, previous=previous, view=night.view)
    # `ray.init` has put a handler of its own in the place of ours.
    with exit_on_signal() as now:
        inner = Shutdown()
        now.end = lambda: _let_go(lock, inner.end())
        return extract(night.plan, previous=previous, view=night.view, shutdown=inner)


def _open_previous(night: _Night) -> PreviousRun | None:
    """The night before; None, with a note, where there is none of this version."""
    if night.previous is None:
        night.notes.append("There is no earlier night: everything was done, nothing compared.")
        return None
    found = _version_of(night.previous)
    if found != SCHEMA_VERSION:
        night.notes.append(
            f"{night.previous} has tables of version {found}, this is version {SCHEMA_VERSION}: "
            "everything was done, nothing compared."
        )
        return None
    return open_previous(
        night.previous,
        night.plan.fingerprint,
        output=night.plan.config.output.path,
        trust_code=night.config.night.trust_code,
    )


def _version_of(previous: str) -> object:
    """Version of the tables of a finished night."""
    return FinishedRun.open(previous).fingerprint.get("schema_version")


def _verify(output: Folder) -> int:
    num_files, faults = verify_output(output, spread=BySize())
    if faults:
        raise DataError(
            "\n".join(
                [
                    f"{output.root} is not what its manifest says; restore these files, or run "
                    "again into another output.path:",
                    *faults,
                ]
            )
        )
    return num_files


def _compare(night: _Night) -> tuple[Diff | None, DriftReport | None]:
    """Diff and drift against the night before, written beside the entities."""
    previous = night.previous
    if previous is None or _version_of(previous) != SCHEMA_VERSION:
        return None, None
    url = night.plan.config.output.path
    with night.step("diff"):
        diff = compare_runs(previous, url, spread=BySize())
        page = render_diff(diff).encode(errors="backslashreplace")
        night.output.write_whole("diff.html", page)
        night.output.write_whole("diff.json", as_json(diff.as_json()))
    with night.step("drift"):
        return diff, measure_drift(previous, url, night.config.drift, spread=BySize())


def _describe_alert(drift: Drift) -> str:
    name = make_visible(drift.name, one_line=True)  # a host is what the page's address says
    return f"{drift.measure} {drift.kind} {name}".rstrip() + f": PSI {drift.psi:.3f}"


def _report(night: _Night, record: dict[str, Any], result: ExtractionResult) -> None:
    """The run's own report, if it has none yet, and the night's."""
    if result.has_finished:
        write_run_report(night.plan, result)
    elif not night.output.exists("report.md"):
        found = find_finished(night.plan, with_units=True)
        write_run_report(night.plan, found or result)
    night.output.write_whole("night.md", describe_night(record).encode())
    write_record(night.output, record)
