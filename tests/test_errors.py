import pytest

from linkner_ray.config import RecognizeConfig
from linkner_ray.errors import StartupError, hide_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pass@host:80/v1, model 'm'", "http://***@host:80/v1, model 'm'"),
        ("s3://AKIA:b+c@bucket/a and hf://x@y", "s3://***@bucket/a and hf://***@y"),
        ("http://h/v1?api_key=1&n=2", "http://h/v1?api_key=***&n=2"),
        (
            "https://b.s3/x?X-Amz-Credential=A%2F1&X-Amz-Date=5&X-Amz-Signature=9",
            "https://b.s3/x?X-Amz-Credential=***&X-Amz-Date=5&X-Amz-Signature=***",
        ),
        ("http://host:8000/a@b, write to me@host", "http://host:8000/a@b, write to me@host"),
    ],
)
def test_secrets_in_urls_are_cut_and_nothing_else(text, shown):
    assert hide_secrets(text) == shown
    assert str(StartupError(f"{text} is gone")) == f"{shown} is gone"
    shown_config = RecognizeConfig(checkpoint=text, dropout_samples=7).shown()
    assert (shown_config["checkpoint"], shown_config["dropout_samples"]) == (shown, 7)
