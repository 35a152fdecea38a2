"""What a training is known by: the content of its inputs and the settings that decide weights."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from huggingface_hub.utils.tqdm import enable_progress_bars
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from linkner_ray.errors import ConfigError
from linkner_ray.logs import adopt
from linkner_ray.runs.fingerprint import differences
from linkner_ray.runs.manifest import read_json
from linkner_ray.spanner.model import SpanNER
from linkner_ray.storage import Folder
from linkner_ray.training.plan import TrainingPlan

CONTENT = "_training.json"
"""What a run trains, in its folder below `output.storage`."""

_NO_CONTENT = ("_name_or_path", "transformers_version")
"""Keys of an encoder's config that say where it came from and which release wrote it."""


def content_of(plan: TrainingPlan) -> dict[str, Any]:
    """Everything that decides the weights of a training, by name.

    Raises:
        ConfigError: If the encoder cannot be loaded, or its windows are too short.
    """
    config = plan.config
    content = {
        **config.model_dump(mode="json", include={"model", "training"}),
        "num_workers": config.workers.num_workers,
        "label_set": plan.label_set.digest,
        "train": plan.train.digest,
        "dev": plan.dev.digest,
    }
    content["model"]["encoder"] = _encoder_digest(plan)
    return content


def check_content(run: Folder, run_name: str, content: Mapping[str, Any]) -> None:
    """Check that the folder of a run is empty or that of a training of this content.

    Raises:
        ConfigError: If the folder belongs to a training of other or unknown content.
        DataError: If the file that says so is damaged.
    """
    if run.exists(CONTENT):
        kept = read_json(run, CONTENT, mend="choose another output.run_name")
        found = differences(kept, json.loads(json.dumps(content)))
        if found:
            raise ConfigError(
                f"output.run_name = {run_name}: {run.root} holds a training of other content: "
                f"{'; '.join(line for _, line in found)}. Choose another name, or none: then it "
                "follows from the content"
            )
        return
    if there := run.entries():
        raise ConfigError(
            f"output.run_name = {run_name}: {run.root} holds {', '.join(there[:3])}, and no "
            f"{CONTENT} says of which training; choose another name"
        )


def with_dtype(plan: TrainingPlan) -> TrainingPlan:
    """The plan with the number format that `training.dtype = auto` means, for all workers alike."""
    training = plan.config.training
    if training.dtype != "auto":
        return plan
    if plan.config.workers.gpus:  # a GPU of another machine is expected to compute bfloat16
        native = not torch.cuda.is_available() or torch.cuda.is_bf16_supported(
            including_emulation=False
        )
    else:
        found = torch.cpu.get_capabilities()
        native = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    resolved = training.model_copy(update={"dtype": "bfloat16" if native else "float32"})
    return replace(plan, config=plan.config.model_copy(update={"training": resolved}))


def _encoder_digest(plan: TrainingPlan) -> str:
    """Name of the encoder's content: weights, config and tokenizer, wherever they came from.

    Raises:
        ConfigError: If it cannot be loaded, or its windows are too short.
    """
    adopt("transformers")
    # This switches the bars of downloads off, too.
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    enable_progress_bars()
    config = plan.config
    model = SpanNER.from_encoder(config.model, plan.label_set, loss=config.training.loss)
    digest = hashlib.blake2b(model.featurizer.subwords.tokenizer.to_str().encode(), digest_size=8)
    encoder = cast("PreTrainedModel", model.encoder)  # as `from_encoder` loads it
    config_of = {k: v for k, v in encoder.config.to_dict().items() if k not in _NO_CONTENT}
    digest.update(json.dumps(config_of, sort_keys=True, default=str).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
