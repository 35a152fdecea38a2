import pytest

from linkner_ray.errors import ConfigError
from linkner_ray.labels import load_label_set, shipped_label_sets

IDS = {
    "bionlp_jnlpba": "DNA RNA protein cell_line cell_type",
    "conll03": "PER ORG LOC MISC",
    "crossner_ai": "field task product algorithm researcher metrics university country person "
    "organisation location programlang conference misc",
    "crossner_literature": "book writer award poem event magazine literarygenre person location "
    "organisation country misc",
    "crossner_music": "musicgenre song band album musicalartist musicalinstrument award event "
    "country location organisation person misc",
    "crossner_politics": "politician person organisation politicalparty event election country "
    "location misc",
    "crossner_science": "scientist person university organisation country location discipline "
    "enzyme protein chemicalelement chemicalcompound astronomicalobject academicjournal event "
    "theory award misc",
    "fewnerd_coarse": "person organization location building art product event other",
    "ontonotes5": "PERSON NORP FAC ORG GPE LOC PRODUCT EVENT WORK_OF_ART LAW LANGUAGE DATE TIME "
    "PERCENT MONEY QUANTITY ORDINAL CARDINAL",
    "twitter": "PER LOC ORG OTHER",
    "wnut16": "person geo-loc company facility product musicartist movie sportsteam tvshow other",
    "wnut17": "person location group corporation product creative-work",
}


@pytest.mark.parametrize("name", shipped_label_sets())
def test_every_shipped_label_set_loads_under_its_own_name(name):
    assert load_label_set(name).name == name


@pytest.mark.parametrize("name", IDS)
def test_the_label_set_of_a_public_corpus_has_the_ids_of_that_corpus(name):
    assert sorted(load_label_set(name).ids) == sorted(IDS[name].split())


def test_non_entity_is_the_first_class():
    assert load_label_set("conll03").classes == ("O", "PER", "ORG", "LOC", "MISC")


def test_a_name_nobody_knows_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"neither a file nor one of: .*conll03"):
        load_label_set("conll04")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            "[{id: A, name: a, description: x}, {id: A, name: b, description: x}]",
            "id given twice: A",
        ),
        (
            "[{id: A, name: a, description: x}, {id: B, name: a, description: x}]",
            "name given twice",
        ),
        ("[{id: O, name: a, description: x}]", "non-entity class"),
        ("[{id: A, name: a}]", "description"),
        ("[]", "expected 1 item or more"),
        ("[", "label set .*mine.yaml:3: is not YAML"),
        ("[{id: A, id: B, name: a, description: x}]", "key given twice: id"),
        ("[{id: [A], name: a, description: x}]", r"labels\.0\.id: expected text, found a list"),
    ],
)
def test_a_file_that_is_no_label_set_is_an_error(tmp_path, labels, message):
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\nlabels: {labels}\n")
    with pytest.raises(ConfigError, match=message):
        load_label_set(str(file))


def test_an_id_that_yaml_takes_for_another_value_is_what_was_written(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: 2026-11-23\nlabels: [{id: NO, name: on, description: 1.10}]\n")
    [label] = load_label_set(str(file)).labels
    assert (label.id, label.name, label.description) == ("NO", "on", "1.10")


def test_a_file_that_is_not_text_is_an_error(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"name: \xff")
    with pytest.raises(ConfigError, match=r"mine\.yaml: cannot be read: 'utf-8'"):
        load_label_set(str(file))


def test_each_problem_of_a_file_is_one_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("labels: [{id: A, name: a}]\n")
    with pytest.raises(ConfigError) as caught:
        load_label_set(str(file))
    assert str(caught.value).splitlines() == [
        f"label set {file}: 'name' is missing",
        f"label set {file}:1: 'labels.0.description' is missing",
    ]


def test_the_digest_changes_with_a_description(tmp_path):
    text = "name: mine\nlabels: [{id: A, name: a, description: %s}]\n"
    files = []
    for index, description in enumerate(["one", "two"]):
        files.append(tmp_path / f"{index}.yaml")
        files[-1].write_text(text % description)
    assert load_label_set(str(files[0])).digest != load_label_set(str(files[1])).digest
