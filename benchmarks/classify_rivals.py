"""Ray's own processor, which answers the questions of `benchmarks.classify`."""

import json
import os
import time

from benchmarks.classify_work import (
    Pass,
    Probs,
    Work,
    engine_environment,
    engine_settings,
    in_order,
    sampling_settings,
)

RAY_BATCH_SIZE = 64
"""Rows in a batch of Ray's processor, the size its documentation recommends."""


def ray_data_llm(work: Work) -> tuple[list[Pass], Probs]:
    """`ray.data.llm`'s processor on the same token ids, a row a prompt.

    Its engine starts inside the dataset, so the time is taken from the rows: from the start of the
    first request to the moment the last row leaves the last step. Starting actors, reading rows
    and collecting them is not counted; nor is its engine warmed up, since it ends with the dataset.
    """
    settings = engine_settings(work)
    # Ray's workers step back behind every other process by default; the other ways do not.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - its name
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    ray.init(
        "local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    settings.pop("model")
    config = vLLMEngineProcessorConfig(
        model_source=work.config.model,
        engine_kwargs=settings,
        batch_size=RAY_BATCH_SIZE,
        concurrency=1,
        max_pending_requests=work.config.max_in_flight,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        log_engine_metrics=False,
        placement_group_config={"bundles": [{"CPU": 0.5}]},
        runtime_env={"env_vars": engine_environment()},
    )
    sampling = sampling_settings(work.symbol_ids)
    processor = build_processor(
        config,
        preprocess=lambda row: {
            "number": row["number"],
            "tokenized_prompt": row["token_ids"],
            "sampling_params": sampling,
        },
        postprocess=lambda row: {
            "number": row["number"],
            "logprobs": json.dumps({k: v["logprob"] for k, v in row["logprobs"][0].items()}),
            "began": time.time() - row["time_taken_llm"],
            "ended": time.time(),
        },
        preprocess_map_kwargs={"num_cpus": 0.25},
        postprocess_map_kwargs={"num_cpus": 0.25},
    )  # fmt: skip
    # No column may be called "prompt": the processor would take it for the text.
    rows = [{"number": n, "token_ids": prompt} for n, prompt in enumerate(work.prompts)]
    try:
        found = processor(ray.data.from_items(rows)).take_all()
    finally:
        ray.shutdown()
    found.sort(key=lambda row: row["number"])
    wall = max(row["ended"] for row in found) - min(row["began"] for row in found)
    logprobs = [{int(k): v for k, v in json.loads(row["logprobs"]).items()} for row in found]
    return [Pass(wall)], [in_order(work, one) for one in logprobs]
