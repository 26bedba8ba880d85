"""A verdict in plain words: one sentence for each thing a person wants to know."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metrics.readings import CHANNELS
from search.whole_set import same_point
from trainer.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from search.verdict import Cost, Verdict

TURNS = {"context": "New contexts", "memory": "The set's own contexts"}


def headline(verdict: "Verdict") -> str:
    """The one line that matters."""
    if verdict.status == "nothing":
        return "No trial got far enough to be scored."
    where = f"trial {verdict.trial}, epoch {verdict.epoch}"
    score = "" if verdict.score is None else f" (score {verdict.score:.3f})"
    if verdict.status == "not_learned":
        return f"Ship nothing yet: even the best trial did not learn the subject ({where})."
    if verdict.status == "poor":
        return f"Ship nothing yet: the best score is {verdict.score or 0.0:.3f} ({where})."
    if verdict.status == "unfinished":
        return f"No trial is complete; the best so far is {where}{score}."
    return f"Ship epoch {verdict.epoch} of trial {verdict.trial}{score}."


def sentences(verdict: "Verdict", errors: Sequence[str] = ()) -> tuple[str, ...]:
    """What to know about the verdict, most important first."""
    said: list[str] = []
    if verdict.status == "nothing":
        if errors:
            said.append(f"{_count(len(errors), 'trial')} failed; the last error: {errors[-1].strip().splitlines()[-1]}")
        said.append(cost(verdict.cost))
        return tuple(said)
    said.append(f"Settings: {settings(verdict.config)}.")
    said.append(_schedule(verdict))
    learned = verdict.status != "not_learned"
    if verdict.onset is not None and learned:
        for name in ("context", "memory"):
            said.append(turn(name, verdict.onset.get(name) or {}, verdict.epochs_trained))
        said += _choice(verdict)
    if not learned:
        said.append(
            "Nothing was learned well enough to overfit: give it more epochs or a higher learning rate, and look at "
            "the captions (is the trigger in them?)."
        )
    if verdict.status == "poor":
        said.append(
            "With such a score the pictures hardly show the subject, or hardly anything else: try a lower learning "
            "rate over more epochs, a smaller rank, or photos that vary more."
        )
    if verdict.ties and verdict.status == "found":
        others = ", ".join(str(n) for n in verdict.ties)
        said.append(
            f"As good within the noise of the score (±{verdict.noise:.3f}): trial{'s'[: len(verdict.ties) > 1]} "
            f"{others}; the smaller file won, then the wider plateau."
        )
    if verdict.photos and verdict.photos[1] and verdict.status == "found":
        said.append(_all_photos(verdict))
    if verdict.lora_bytes is None:
        said.append("The checkpoint of that epoch was not kept, so there is no LoRA here; train it with train.yaml.")
    if verdict.cost.failed:
        last = f" The last error: {errors[-1].strip().splitlines()[-1]}" if errors else ""
        said.append(f"{_count(verdict.cost.failed, 'trial')} failed.{last}")
    said.append(cost(verdict.cost))
    return tuple(said)


def settings(config: Mapping[str, Any]) -> str:
    """A config in one line: optimizer, learning rate, schedule, rank and alpha, what is trained."""
    parts = [str(config.get("optimizer", "?"))]
    if config.get("relative_step"):
        parts.append("sets its own learning rate")
    else:
        parts.append(f"learning rate {learning_rate(config):.2g}")
    if config.get("optimizer") in ("Prodigy", "DAdaptAdam") and config.get("d_coef", 1.0) != 1.0:
        parts.append(f"d_coef {config['d_coef']:.3g}")
    schedule = str(config.get("lr_scheduler", "?"))
    if schedule == "cosine_with_restarts":
        if config.get("cycle_epochs"):
            schedule += f" every {config['cycle_epochs']} epochs"
        elif config.get("num_cycles"):
            schedule += f", {_count(int(config['num_cycles']), 'cycle')}"
    parts.append(schedule)
    parts.append(f"rank {config.get('rank', '?')}")
    if config.get("alpha_ratio") is not None:
        parts.append(f"alpha {config['alpha_ratio'] * config.get('rank', 1):.3g}")
    else:
        parts.append(f"alpha {config.get('alpha') or config.get('rank', '?'):.3g}")
    if config.get("targets") == "attention":
        parts.append("attention only")
    for name, words in (("dora", "DoRA"), ("rslora", "rank-stabilised"), ("train_text_encoder", "text encoder too")):
        if config.get(name):
            parts.append(words)
    return ", ".join(parts)


def learning_rate(config: Mapping[str, Any]) -> float:
    """Peak learning rate of the denoiser's adapters (without meaning under relative_step)."""
    if config.get("learning_rate") is not None:
        return float(config["learning_rate"])
    usual = OPTIMIZERS[str(config.get("optimizer", "AdamW"))].learning_rate
    return usual * float(config.get("learning_rate_scale") or 1.0)


def turn(name: str, found: Mapping[str, Any], last: int | None) -> str:
    """One of the two onsets in a sentence. `name` is "context" or "memory"; `found` is a `metrics.onset.Turn`."""
    where, status = TURNS[name], found.get("status")
    if status == "found" and name == "memory" and "copying" in (found.get("channels") or ()):
        return f"Photos are reproduced from epoch {_epoch(found['epoch'])} on ({interval(found)})."
    if status == "found":
        says = channels(found.get("channels") or ())
        return f"{where} get worse from epoch {_epoch(found['epoch'])} on ({interval(found)})" + (
            f"; {says} say{'s' if len(found['channels']) == 1 else ''} so." if says else "."
        )
    if status == "beyond" and name == "memory" and rests_on_copies(found):
        return (
            f"No copies of the photos turned up until epoch {last}, the last one looked at; without held-out photos "
            "(score.holdout) nothing else tells of learning by heart."
        )
    if status == "beyond":
        return f"{where} were not yet getting worse at epoch {last}, the last one looked at."
    if status == "at_start":
        return f"{where} are already getting worse at the first checkpoint: save more often, or learn more slowly."
    return f"{where} could not be judged: no channel measures them in this study."


def rests_on_copies(memory: Mapping[str, Any]) -> bool:
    """Whether a memory onset was judged by copies in generated images alone, without held-out photos."""
    return tuple(memory.get("channels") or ()) == ("copying",)


def interval(found: Mapping[str, Any]) -> str:
    """`90 % interval 8–16` of a turn or an onset; without an upper end it may lie behind the last checkpoint."""
    low, high = found.get("low"), found.get("high")
    if low is None:
        return "no interval"
    if high is None:
        return f"90 % interval from {_epoch(low)} to behind the last checkpoint"
    return f"90 % interval {_epoch(low)}–{_epoch(high)}"


def channels(names: Sequence[str]) -> str:
    """`held-out loss, copying`: channels by the short form of their label."""
    return ", ".join(CHANNELS[n].label.split(",")[0].split(" (")[0] if n in CHANNELS else n for n in names)


def cost(spent: "Cost") -> str:
    """What the study took, in a sentence."""
    kinds = [
        f"{number} {what}"
        for number, what in (
            (spent.complete - spent.at_onset, "to the end"),
            (spent.at_onset, "stopped at the onset"),
            (spent.pruned, "pruned against their peers"),
            (spent.failed, "failed"),
            (spent.running, "unfinished"),
        )
        if number
    ]
    clock = f"{duration(spent.wall_seconds)} on the clock, " if spent.wall_seconds is not None else ""
    return (
        f"Cost: {_count(spent.trials, 'trial')}"
        + (f" ({', '.join(kinds)})" if kinds else "")
        + f", {_count(spent.epochs, 'trained epoch')}, {clock}{duration(spent.seconds)} of worker time "
        f"(training {duration(spent.train)}, drawing {duration(spent.sample)}, scoring {duration(spent.score)})."
    )


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(num_bytes: int) -> str:
    """`1.2 MB`, `340 kB`."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{max(1, round(num_bytes / 1e3))} kB"


def _schedule(verdict: "Verdict") -> str:
    trained = (
        f"trained to epoch {verdict.epochs_trained}"
        if verdict.epochs_trained != verdict.epochs
        else "trained to the end"
    )
    note = ""
    if verdict.config.get("lr_scheduler") not in ("constant", "constant_with_warmup", "adafactor"):
        note = f" A production run has to keep the horizon of {verdict.epochs}: a shorter schedule is another schedule."
    return f"Its schedule is laid out for {verdict.epochs} epochs; it was {trained}.{note}"


def _choice(verdict: "Verdict") -> list[str]:
    onset = verdict.onset or {}
    said = []
    learned = onset.get("learned")
    if learned is not None:
        plateau = ""
        if verdict.plateau and verdict.plateau[0] != verdict.plateau[1]:
            plateau = f"; epochs {verdict.plateau[0]}–{verdict.plateau[1]} score alike"
        said.append(f"The subject is learned from epoch {learned} on{plateau}.")
    turns = (onset.get("context") or {}, onset.get("memory") or {})
    low = min((float(t["low"]) for t in turns if t.get("low") is not None), default=None)
    if low is not None and verdict.epoch is not None and verdict.epoch > low:
        if learned is not None and learned < low:
            said.append(
                f"Epoch {verdict.epoch} lies inside the onset's interval, where the loss is as low as it gets; one "
                f"before epoch {low:.0f} is the cautious choice."
            )
        else:
            said.append(
                f"Epoch {verdict.epoch} lies inside the onset's interval, and the subject is learned no earlier: learn "
                "more slowly to be on the safe side."
            )
        context = turns[0]
        inside = context.get("low") and verdict.epoch > context["low"]
        if inside and context.get("channels") and "context_loss" not in context["channels"]:
            said.append("Contexts held out as a whole (score.holdout_contexts) usually make the interval narrower.")
    return said


def _all_photos(verdict: "Verdict") -> str:
    trained, held = verdict.photos or (0, 0)
    said = f"The search trained on {trained} photos and held {held} out; train.yaml trains on all {trained + held}"
    if verdict.epoch is None or not trained:
        return said + "."
    early, _ = same_point(verdict.epoch, trained, held)
    if early == verdict.epoch:
        return said + f", where epoch {verdict.epoch} stays the one to look at."
    return said + f", where the same point lies between epochs {early} and {verdict.epoch}."


def _epoch(value: float) -> str:
    return f"{value:.0f}" if abs(value - round(value)) < 0.05 or value >= 10 else f"{value:.1f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
