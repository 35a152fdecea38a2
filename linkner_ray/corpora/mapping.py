"""A corpus in the labels of another label set."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from linkner_ray.corpora.labelled import Corpus, LabelledSentence, LabelledSpan
from linkner_ray.labels import LabelMap


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedCorpus:
    """A corpus under a label map, and what the map did.

    Attributes:
        corpus: In the labels of the map's target.
        renamed: Entities by (label, label there), also where both are the same.
        dropped: Entities by label that the target set does not mark.
    """

    corpus: Corpus
    renamed: Mapping[tuple[str, str], int]
    dropped: Mapping[str, int]


def map_labels(corpus: Corpus, label_map: LabelMap) -> MappedCorpus:
    """Call the entities of a corpus what another label set calls them.

    Entities of a label without a target leave gold.
    """
    renamed: Counter[tuple[str, str]] = Counter()
    dropped: Counter[str] = Counter()
    sentences = []
    for sentence in corpus.sentences:
        kept = []
        for span in sentence.spans:
            target = label_map.targets[span.label]
            if target is None:
                dropped[span.label] += 1
                continue
            renamed[span.label, target] += 1
            kept.append(LabelledSpan(span.start_token, span.end_token, target))
        # Two entities of the same boundaries may now have one label.
        unique = sorted(set(kept))
        sentences.append(LabelledSentence(sentence.tokens, tuple(unique)))
    return MappedCorpus(
        corpus=replace(corpus, sentences=tuple(sentences)), renamed=renamed, dropped=dropped
    )
