import pickle
from pathlib import Path

import pytest

import linkner_ray
from linkner_ray.errors import ConfigError
from linkner_ray.labels import load_label_map

SHIPPED = (
    "crossner_ai_to_conll03",
    "crossner_science_to_conll03",
    "ontonotes5_to_conll03",
    "twitter_to_conll03",
    "wnut16_to_conll03",
    "wnut17_to_conll03",
)

COMPLETE = {
    "person": "PER",
    "location": "LOC",
    "group": "ORG",
    "corporation": "ORG",
} | dict.fromkeys(("product", "creative-work"), "MISC")


def write_map(path, lines, *, source="wnut17", target="conll03"):
    body = "".join(f"  {line}\n" for line in lines)
    path.write_text(f"name: mine\nfrom: {source}\nto: {target}\nmap:\n{body}")
    return str(path)


def lines_of(targets):
    return [f"{source}: {target}" for source, target in targets.items()]


def test_these_label_maps_ship():
    folder = Path(linkner_ray.__file__).parent / "label_maps"
    assert sorted(path.stem for path in folder.iterdir()) == sorted(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_map_is_named_after_its_two_sets_and_reaches_every_label(name):
    label_map = load_label_map(name)
    assert label_map.name == name == f"{label_map.source.name}_to_{label_map.target.name}"
    assert tuple(label_map.targets) == label_map.source.ids
    assert set(label_map.targets.values()) - {None} == {"PER", "ORG", "LOC", "MISC"}


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("crossner_ai_to_conll03", "field task algorithm metrics"),
        (
            "crossner_science_to_conll03",
            "discipline enzyme protein chemicalelement chemicalcompound theory",
        ),
        ("ontonotes5_to_conll03", "DATE TIME PERCENT MONEY QUANTITY ORDINAL CARDINAL"),
        ("twitter_to_conll03", ""),
        ("wnut16_to_conll03", ""),
        ("wnut17_to_conll03", ""),
    ],
)
def test_a_shipped_map_drops_what_conll_does_not_mark(name, dropped):
    assert load_label_map(name).dropped == tuple(dropped.split())


def test_labels_follow_the_order_of_their_set_not_of_the_file(tmp_path):
    backwards = dict(reversed(COMPLETE.items())) | {"product": "null"}
    label_map = load_label_map(write_map(tmp_path / "mine.yaml", lines_of(backwards)))
    assert list(label_map.targets.items()) == [
        ("person", "PER"),
        ("location", "LOC"),
        ("group", "ORG"),
        ("corporation", "ORG"),
        ("product", None),
        ("creative-work", "MISC"),
    ]
    assert label_map.dropped == ("product",)


def test_a_set_may_be_a_file_of_its_own(tmp_path):
    own = tmp_path / "pets.yaml"
    own.write_text("name: pets\nlabels: [{id: CAT, name: cat, description: Cats by name.}]\n")
    file = write_map(tmp_path / "mine.yaml", ["CAT: MISC"], source=own)
    assert load_label_map(file).targets == {"CAT": "MISC"}


def test_a_map_can_be_sent_to_another_process():
    label_map = load_label_map("wnut17_to_conll03")
    assert pickle.loads(pickle.dumps(label_map)) == label_map  # noqa: S301 - our own bytes


def test_a_name_nobody_knows_lists_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"label map 'x' is neither a file nor one of: .*wnut17_to"
    ):
        load_label_map("x")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            lines_of(COMPLETE)[1:],
            "label of 'wnut17' not mapped: person; give each a target, or null",
        ),
        ([*lines_of(COMPLETE), "person: LOC"], "key given twice: person"),
        ([*lines_of(COMPLETE), "animal: MISC"], "not a label of 'wnut17': animal; known: person, "),
        (
            lines_of(COMPLETE | {"group": "GROUP"}),
            "target not a label of 'conll03': group -> GROUP; known: PER, ORG, LOC, MISC",
        ),
        (lines_of(COMPLETE | {"group": "O"}), "target not a label of 'conll03': group -> O"),
        (lines_of(COMPLETE | {"group": "[ORG]"}), r"map\.group: expected text, found a list"),
    ],
)
def test_a_map_that_is_not_one_target_for_each_label_is_an_error(tmp_path, lines, message):
    with pytest.raises(ConfigError, match=message):
        load_label_map(write_map(tmp_path / "mine.yaml", lines))


def test_a_label_set_nobody_knows_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="label set 'wnut18' is neither"):
        load_label_map(write_map(tmp_path / "mine.yaml", lines_of(COMPLETE), source="wnut18"))


def test_an_unknown_or_missing_key_is_an_error(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nfrom: wnut17\ninto: conll03\nmap: {}\n")
    with pytest.raises(ConfigError) as caught:
        load_label_map(str(file))
    assert str(caught.value).splitlines() == [
        f"label map {file}: 'to' is missing",
        f"label map {file}:3: unknown key 'into'; did you mean 'to'?",
    ]
