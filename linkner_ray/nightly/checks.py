"""What is checked before a night starts: the checkpoint by its self-check, and the estimate."""

from dataclasses import replace

from linkner_ray.config import NightlyConfig, RecognizeConfig
from linkner_ray.errors import ConfigError
from linkner_ray.extract.plan import Plan
from linkner_ray.nightly.estimate import RunEstimate, SampleSettings, estimate_run, known_answers
from linkner_ray.spanner.checkpoint import local_checkpoint
from linkner_ray.spanner.self_check import SelfCheck, load_recognizer


def run_self_check_of(config: RecognizeConfig, notes: list[str]) -> int:
    """Compare the checkpoint's answers with those where it was trained, even if they once agreed.

    Returns:
        Sentences of the self-check; 0 if the checkpoint has none, which becomes a note.

    Raises:
        StartupError: If it answers otherwise.
    """
    self_check = SelfCheck.read(local_checkpoint(config.checkpoint))
    if self_check is None:
        notes.append(f"{config.checkpoint} has no self-check, so nobody asked it.")
        return 0
    load_recognizer(_anywhere(config), check_again=True)
    return len(self_check.sentences)


def check_limits(plan: Plan, config: NightlyConfig) -> RunEstimate:
    """Estimate what the night would ask and take, from a sample.

    Raises:
        ConfigError: If that is over a limit of `night`.
    """
    here = plan.config.model_copy(update={"recognize": _anywhere(plan.config.recognize)})
    settings = SampleSettings(documents=config.night.sample_documents, thresholds=(), min_gains=())
    estimate = estimate_run(
        replace(plan, config=here), settings, is_known=known_answers(here, plan.label_set)
    )
    [row] = estimate.rows
    if plan.config.llm.backend == "none":  # the estimate is of what would be asked
        row = replace(row, questions=0, prompt_tokens=0, known=None, llm_hours=None, price=None)
        estimate = replace(estimate, rows=(row,))
    limits = (
        ("max_questions", config.night.max_questions, row.questions - (row.known or 0)),
        ("max_llm_hours", config.night.max_llm_hours, row.llm_hours),
        ("max_encoder_hours", config.night.max_encoder_hours, estimate.encoder_hours),
    )
    over = [
        f"{found:,.6g} over night.{name} = {limit:,.6g}"
        for name, limit, found in limits
        if limit is not None and found is not None and found > limit
    ]
    if over:
        rule = "threshold" if estimate.link is None else "min_gain"
        raise ConfigError(
            f"night {config.night.name} is not started, its estimate is {', '.join(over)}; set "
            f"routing.budget or a higher routing.{rule}, or raise the limit"
        )
    return estimate


def _anywhere(config: RecognizeConfig) -> RecognizeConfig:
    """The same for a driver that may have no GPU."""
    return config.model_copy(update={"device": "auto"})
