import json

from benchmarks import diff


def test_seconds_are_linear_and_reads_are_of_the_order_of_the_files(tmp_path, capsys):
    """Once 800 relabelled entities took 46 s, and a shuffled run 1.2 reads a document."""
    numbers = diff.main(
        ["--entities", "10,3000", "--files", "12", "--json", str(tmp_path / "n.json")]
    )
    assert json.loads((tmp_path / "n.json").read_text()) == numbers
    assert numbers["relabelled_3000_entities"] == 3000
    assert numbers["cpu_s_3000_entities"] < 2
    assert numbers["documents_in_another_order"] == 12 * diff.DOCUMENTS_A_FILE
    assert numbers["reads_of_both_runs"] == 2 * 12
    assert "| reads_of_both_runs |" in capsys.readouterr().out
