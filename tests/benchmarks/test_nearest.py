import json

from benchmarks import nearest


def test_a_question_costs_little_and_memory_is_bounded(tmp_path, capsys):
    path = tmp_path / "numbers.json"
    numbers = nearest.main(
        ["--spans", "3000", "--questions", "20", "--rounds", "1", "--json", str(path)]
    )
    assert json.loads(path.read_text()) == numbers
    assert 0 < numbers["cpu_ms_3000"] < 5
    assert "cpu_ms_3000" in capsys.readouterr().out
