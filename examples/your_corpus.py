# %% [markdown]
# # Entities of your own texts
#
# Train on rows of tokens and tags, find entities in texts, look at them with pandas, score them.
# Run it cell by cell in an editor that knows `# %%`, or whole: `python examples/your_corpus.py`.

# %%
"""From a labelled corpus of your own to entities and scores, without a cluster."""

import json
from pathlib import Path

from linkner_ray import LinkNER
from linkner_ray.config import TrainConfig
from linkner_ray.config.loading import load_config
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.scores import score_entities
from linkner_ray.corpora.tables import corpus_documents
from linkner_ray.reporting.tables import scores_table
from linkner_ray.training.job import train
from linkner_ray.training.plan import plan_training

FOLDER = Path("your-corpus")
CHECKPOINT = FOLDER / "checkpoint"
FOLDER.mkdir(exist_ok=True)

# %% [markdown]
# ## A corpus
#
# One JSON object a line, with `tokens` and `ner_tags`, as in data sets of Hugging Face. Put a few
# hundred sentences of yours in place of these.

# %%
TRAIN = [
    {"tokens": ["Ada", "Lovelace", "met", "Siemens"], "ner_tags": ["B-PER", "I-PER", "O", "B-ORG"]},
    {
        "tokens": ["Peter", "lives", "in", "New", "York"],
        "ner_tags": ["B-PER", "O", "O", "B-LOC", "I-LOC"],
    },
]
DEV = [{"tokens": ["Ada", "lives", "in", "Berlin"], "ner_tags": ["B-PER", "O", "O", "B-LOC"]}]

LABELS = """\
name: mine
labels:
- {id: PER, name: person, description: People.}
- {id: ORG, name: organization, description: Organizations.}
- {id: LOC, name: location, description: Places.}
"""

for name, rows in (("train", TRAIN), ("dev", DEV)):
    (FOLDER / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
(FOLDER / "labels.yaml").write_text(LABELS)

# %% [markdown]
# ## Training
#
# Any encoder of Hugging Face works: `model.encoder=FacebookAI/roberta-base`.

# %%
if not CHECKPOINT.exists():
    config = load_config(
        TrainConfig,
        None,
        [
            f"corpus.train={FOLDER}/train.jsonl",
            f"corpus.dev={FOLDER}/dev.jsonl",
            f"corpus.label_set={FOLDER}/labels.yaml",
            f"output.checkpoint={CHECKPOINT}",
            f"output.storage={FOLDER}/storage",
        ],
    )
    print(train(plan_training(config)).summary())

# %% [markdown]
# ## Entities
#
# `llm={"backend": "openai", "model": ..., "base_url": ...}` asks an LLM about uncertain spans, too.

# %%
TEXTS = ["Ada Lovelace met Peter in Berlin.", "Siemens is not in New York."]

linkner = LinkNER.from_pretrained(str(CHECKPOINT))
found = linkner.predict(TEXTS)

table = found.to_pandas()
print(table[["text_index", "start", "end", "text", "label", "score"]])
print(table.groupby("label")["score"].agg(["count", "mean"]))

# %% [markdown]
# With spaCy: `displacy.render(found.to_displacy(), style="ent", manual=True)` draws them, and
# `found[0].to_spacy(nlp(TEXTS[0]))` sets `doc.ents`.

# %% [markdown]
# ## Scores
#
# Precision, recall and F1 of what is right in boundaries and label. For intervals, plots and each
# error in its sentence: `linkner evaluate --checkpoint your-corpus/checkpoint
# --set dev=your-corpus/dev.jsonl output.path=scores`.

# %%
corpus = read_corpus(FOLDER / "dev.jsonl", label_set=linkner.label_set)
documents, gold = corpus_documents(corpus.sentences, ids_prefix="dev")
ours = linkner.predict(documents["text"].to_pylist())
scores = score_entities(gold, [[(e.start, e.end, e.label) for e in one] for one in ours])
print(scores_table(scores))
