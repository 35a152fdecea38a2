import numpy as np
import pytest

from examples.demo.names import Name, Split, load_gazetteer, surname_of


@pytest.mark.parametrize("seed", range(5))
def test_about_two_names_in_five_are_held_out(seed):
    gazetteer = load_gazetteer(seed)
    names = {name.text for name in gazetteer.names}
    assert 0.3 < len(names & gazetteer.held_out()) / len(names) < 0.45


@pytest.mark.parametrize("seed", range(5))
def test_a_name_that_contains_a_held_out_name_is_held_out(seed):
    splits = load_gazetteer(seed).splits
    assert splits["Denzel Washington"] >= splits["Washington"]
    assert splits["Washington Post"] >= splits["Washington"]


def test_a_surname_is_known_if_a_known_name_contains_it():
    gazetteer = load_gazetteer(0)
    for name in gazetteer.names:
        surname = surname_of(name)
        listed = {other.text for other in gazetteer.names}
        if surname and surname not in listed and gazetteer.splits[name.text] == Split.TRAIN:
            assert gazetteer.splits[surname] == Split.TRAIN


def test_only_two_words_give_a_surname():
    assert surname_of(Name("Ada Lovelace", "PER", "person", False)) == "Lovelace"
    assert surname_of(Name("Leonardo da Vinci", "PER", "person", False)) is None
    assert surname_of(Name("New York", "LOC", "city", False)) is None


def test_a_sampler_draws_only_names_its_split_may_show():
    gazetteer = load_gazetteer(0)
    sampler, rng = gazetteer.upto(Split.TRAIN), np.random.default_rng(0)
    drawn = {sampler.draw("PER", [], rng).text for _ in range(500)}
    assert not drawn & gazetteer.held_out()
