"""Names of earlier releases: the error gives the new one."""

import re

import pytest

from linkner_ray.config import EvaluateConfig, ExtractConfig, NightlyConfig
from linkner_ray.config.loading import load_config
from linkner_ray.config.old_names import OLD_KEYS
from linkner_ray.config.validation import known_keys
from linkner_ray.errors import ConfigError

RENAMED = {
    old: found[1]
    for old, said in OLD_KEYS.items()
    if (found := re.fullmatch("is called '(.*)' now", said))
}


@pytest.mark.parametrize("kind", [ExtractConfig, EvaluateConfig, NightlyConfig])
@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_is_refused_with_its_new_name(kind, old, new):
    known = set(known_keys(kind))
    assert old not in known
    assert new in known
    with pytest.raises(ConfigError, match=rf"'{old}' is called '{new}' now"):
        load_config(kind, None, [f"{old}=1"])


def test_what_stands_under_an_old_section_is_refused_with_the_section(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("ledger: {path: answers}\n")
    with pytest.raises(ConfigError, match=r"run.yaml:1: 'ledger' is called 'cache' now"):
        load_config(ExtractConfig, str(file))
