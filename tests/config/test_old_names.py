"""Names of earlier releases: the error gives the new one."""

import pytest

from linkner_ray.cli import main
from linkner_ray.cli.app import _WITH_OLD_NAMES
from linkner_ray.config import EvaluateConfig, ExtractConfig, NightlyConfig
from linkner_ray.config.loading import load_config
from linkner_ray.config.old_names import REMOVED_COMMANDS, RENAMED_COMMANDS, RENAMED_KEYS
from linkner_ray.config.validation import known_keys
from linkner_ray.errors import ConfigError


@pytest.mark.parametrize("kind", [ExtractConfig, EvaluateConfig, NightlyConfig])
@pytest.mark.parametrize(("old", "new"), RENAMED_KEYS.items())
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


@pytest.mark.parametrize(("old", "new"), RENAMED_COMMANDS.items())
def test_an_old_command_or_option_exits_2_with_its_new_name(old, new, capsys):
    assert main([*old.split(), "more"]) == 2
    assert f"linkner {old}: is called `linkner {new}` now" in capsys.readouterr().err
    assert main([*new.split()[:1], "--help"]) == 0


def test_the_command_looks_up_every_first_word_with_an_old_name():
    assert {name.split()[0] for name in [*RENAMED_COMMANDS, *REMOVED_COMMANDS]} == set(
        _WITH_OLD_NAMES
    )
