"""Words of the demo's own text, as the pipeline finds them in the pages."""

from linkner_ray.config import SentencesConfig
from linkner_ray.stages.words import find_words


def tokenize(text: str) -> list[tuple[int, int]]:
    """Find the tokens of a sentence.

    Returns:
        Start and end of each token, half-open code points of `text`.
    """
    starts, ends = find_words(text, max_token_chars=SentencesConfig().max_token_chars)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
