import pytest

from linkner_ray.errors import DataError
from linkner_ray.extract.spread import choose_spread, spread_on_ray
from linkner_ray.runs import part_work
from linkner_ray.runs.folder import RunFolder
from linkner_ray.runs.manifest import FileList, verify_output
from linkner_ray.runs.part_work import pieces_of, spread_here
from tests.runs.test_folder import commit, unit_result

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("two_cpus"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


def double(numbers):
    if 13 in numbers:
        raise DataError("thirteen")
    return [2 * number for number in numbers]


def test_pieces_done_on_ray_come_in_their_order_and_errors_as_themselves(monkeypatch):
    monkeypatch.setattr(part_work, "PIECE_FILES", 2)
    assert choose_spread(part_work.FEW_PIECES * 2) is spread_here
    assert choose_spread(part_work.FEW_PIECES * 2 + 1) is spread_on_ray
    pieces = pieces_of(range(7))
    assert list(spread_on_ray(double, pieces)) == [[0, 2], [4, 6], [8, 10], [12]]
    assert list(spread_on_ray(double, [])) == []
    with pytest.raises(DataError, match="thirteen"):
        list(spread_on_ray(double, [[1], [13]]))


def test_an_output_is_verified_on_ray_as_here(tmp_path, monkeypatch):
    monkeypatch.setattr(part_work, "PIECE_FILES", 1)
    run, units = RunFolder(str(tmp_path)), [unit_result(place) for place in range(3)]
    run.finish(units, FileList(entry for unit in units for entry in commit(run, unit)), {})
    (tmp_path / "entities" / units[1].file_name).write_bytes(b"other")
    found = verify_output(run.folder, spread=spread_on_ray)
    assert found == verify_output(run.folder)
    assert (found[0], len(found[1])) == (3, 1)
