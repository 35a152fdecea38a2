"""How far a run is, from the unit results that came."""

import threading

from linkner_ray.extract.progress import LineView, Progress, Snapshot
from tests.runs.test_folder import unit_result

COUNTS = {"documents_read": 5, "entities": 2, "questions": 1}


class Shown:
    """Keeps what it is shown, and tells when there is enough of it."""

    def __init__(self, interval_s, enough=1):
        self.interval_s = interval_s
        self.snapshots = []
        self.said = []
        self.enough = enough
        self.has_enough = threading.Event()

    def __call__(self, snapshot):
        self.snapshots.append(snapshot)
        if len(self.snapshots) >= self.enough:
            self.has_enough.set()

    def say(self, line):
        self.said.append(line)


def test_a_run_is_shown_at_intervals_though_nothing_is_finished():
    shown = Shown(0.01, enough=3)
    with Progress(shown, shards=2):
        assert shown.has_enough.wait(10)
    assert {(one.shards, one.units) for one in shown.snapshots} == {(2, 0)}
    assert shown.snapshots[0].line == "0 s, loading models"


def test_the_last_snapshot_has_all_units():
    shown = Shown(60)
    with Progress(shown, shards=2) as progress:
        progress.add(unit_result(counts=COUNTS))
        progress.add(unit_result(counts=COUNTS, is_last=True))
    [last] = shown.snapshots
    assert (last.shards_done, last.units, last.documents) == (1, 2, 10)
    assert (last.entities, last.questions) == (4, 2)
    assert shown.said == ["the first unit is done after 0 s, loading included"]


def test_a_line_has_every_number():
    lines = []
    show = LineView(lines.append)
    show(Snapshot(seconds=4.0, shards=3, shards_done=1, units=2, documents=10, entities=4))
    assert lines == ["4 s, 1/3 shards (8 s left), 10 documents (2.5/s), 4 entities, 0 questions"]
    assert show.interval_s == 10


def test_while_models_load_there_is_a_line_a_minute():
    lines = []
    show = LineView(lines.append)
    for ticks in range(1, 25):
        show(Snapshot(seconds=10.05 * ticks, shards=3))
    assert lines == [f"{seconds} s, loading models" for seconds in (60, 121, 181, 241)]
