import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from linkner_ray.errors import DataError
from linkner_ray.extract import spread
from linkner_ray.extract.spread import BySize, OnRay
from linkner_ray.nightly.diff import compare_finished
from linkner_ray.runs import part_work
from linkner_ray.runs.folder import RunFolder
from linkner_ray.runs.manifest import FileList, verify_output
from linkner_ray.runs.part_work import BUCKET, HERE, pieces_of
from tests.nightly.test_diff_rows import drawn_rows, split, write_run
from tests.runs.test_folder import commit, unit_result

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(params=["here", pytest.param("ray", marks=pytest.mark.ray)])
def workers(request):
    if request.param == "here":
        return HERE
    request.getfixturevalue("two_cpus")
    return OnRay()


def double(numbers):
    if 13 in numbers:
        raise DataError("thirteen")
    return [2 * number for number in numbers]


def test_pieces_come_in_their_order_and_errors_as_themselves(workers, monkeypatch):
    monkeypatch.setattr(part_work, "PIECE_FILES", 2)
    pieces = pieces_of(range(7))
    assert list(workers.each(double, pieces)) == [[0, 2], [4, 6], [8, 10], [12]]
    assert list(workers.each(double, [])) == []
    with pytest.raises(DataError, match="thirteen"):
        list(workers.each(double, [[1], [13]]))


def by_last_digit(numbers):
    double(numbers)
    values = [{"n": [number]} for number in numbers]
    return pa.table({BUCKET: [n % 10 for n in numbers], "values": values})


def add_up(rows):
    numbers = pc.list_flatten(pc.struct_field(rows["values"], "n")).to_pylist()
    if 99 in numbers:
        raise DataError("ninety-nine")
    return sorted(numbers)


def test_a_bucket_has_its_rows_of_all_pieces():
    pieces = [[1, 11, 2], [21, 5], [32, 42]]
    found = sorted(HERE.by_bucket(by_last_digit, add_up, pieces))
    assert found == [[1, 11, 21], [2, 32, 42], [5]]


def test_errors_of_pieces_and_buckets_come_as_themselves(workers):
    assert list(workers.by_bucket(by_last_digit, add_up, [])) == []
    for wrong, message in ((13, "thirteen"), (99, "ninety-nine")):
        with pytest.raises(DataError, match=message):
            list(workers.by_bucket(by_last_digit, add_up, [[1], [wrong]]))


@pytest.mark.ray
@pytest.mark.usefixtures("two_cpus")
def test_outputs_are_verified_and_compared_on_ray_as_here(tmp_path, monkeypatch):
    monkeypatch.setattr(part_work, "PIECE_FILES", 1)
    run, units = RunFolder(str(tmp_path)), [unit_result(place) for place in range(3)]
    run.finish(units, FileList(entry for unit in units for entry in commit(run, unit)), {})
    (tmp_path / "entities" / units[1].file_name).write_bytes(b"other")
    found = verify_output(run.folder, spread=OnRay())
    assert found == verify_output(run.folder)
    assert (found[0], len(found[1])) == (3, 1)
    generator = np.random.default_rng(0)
    runs = tuple(write_run(tmp_path / n, split(drawn_rows(generator), 3)) for n in "ab")
    assert compare_finished(runs, spread=OnRay()) == compare_finished(runs)


def test_many_pieces_go_to_a_ray_and_few_do_not(monkeypatch):
    started = []
    monkeypatch.setattr("linkner_ray.extract.ray_start.start_ray", lambda: started.append(1))
    monkeypatch.setattr(spread, "OnRay", lambda: HERE)
    for pieces, starts in (([[1]] * spread.FEW_PIECES, 0), ([[1]] * (spread.FEW_PIECES + 1), 1)):
        assert list(BySize().each(double, pieces)) == [[2]] * len(pieces)
        assert len(started) == starts
