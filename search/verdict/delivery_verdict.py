"""A delivery study's end: `best/` with the merged LoRA, its prompt and the sheet, the report, `verdict.json`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from search.record.json_files import write_bytes
from search.record.judgement import SHEET_FILE, Judgement
from search.record.record import StudyFolder
from search.study.settings import KeepSection
from search.verdict.best_folder import replacing_best
from search.verdict.decision import Decision
from search.verdict.delivery_report import write_delivery_report
from search.verdict.delivery_sentences import say_judgement
from search.verdict.verdict import Verdict, make_verdict

PROMPT_FILE = "prompt.txt"


def finish_delivery(
    folder: StudyFolder,
    judgement: Judgement,
    *,
    base: str,
    wall_seconds: float,
    keep: KeepSection | None,
    publish: Callable[[Verdict], object] = lambda verdict: None,
) -> Verdict:
    """Writes everything that goes with a judgement.

    Args:
        base: that the delivered file is looked over against.
        wall_seconds: time on the clock. keep: what stays of the trials; None leaves them as they are.
        publish: called with the verdict before `verdict.json` is written.
    """
    from search.verdict.disk_cleanup import tidy_study

    drawn = make_verdict(folder, wall_seconds=wall_seconds)
    records = list(folder.records())
    chosen = next(record for record in records if record.number == judgement.trial)
    assert chosen.finished_run is not None
    source = Path(chosen.finished_run.files[1])
    files: dict[str, str] = {}
    with replacing_best(folder) as aside:
        target = aside / f"{drawn.study}.safetensors"
        faults = _deliver(source, judgement, target, base)
        files["LoRA"] = f"{folder.best_folder.name}/{target.name}"
        if judgement.turns_down:
            prompt = f"<lora:{source.stem}:1:lbw={judgement.lbw}>\n"
            write_bytes(aside / PROMPT_FILE, prompt.encode())
            files["prompt for the old file"] = f"{folder.best_folder.name}/{PROMPT_FILE}"
        if judgement.images and (folder.path / SHEET_FILE).is_file():
            write_bytes(aside / "sheet.png", (folder.path / SHEET_FILE).read_bytes())
            files["before and after"] = f"{folder.best_folder.name}/sheet.png"
        size = target.stat().st_size
    files["report"] = folder.report.name
    said = say_judgement(judgement, source.name, drawn.study, looks=len(records), seconds=wall_seconds, gate=faults)
    decision = Decision("ship", chosen.number, 1, chosen.score, last=1)
    verdict = replace(
        drawn, decision=decision, params=chosen.params, lora_bytes=size, said=said, files={**files, **drawn.files}
    )
    if keep is not None:
        tidy_study(folder, keep, verdict)
    write_delivery_report(folder, verdict, judgement, records)
    publish(verdict)
    verdict.save(folder.verdict_file)  # last: a study with a verdict has everything that goes with it
    return verdict


def _deliver(source: Path, judgement: Judgement, target: Path, base: str) -> list[str]:
    """Write the file to pass on; returns the faults that the gate finds in it."""
    from trainer.delivery.architecture import architecture_of
    from trainer.delivery.edits import Edits, write_edited
    from trainer.delivery.gate import look, read_file

    if judgement.turns_down:
        write_edited(read_file(source), Edits(blocks=judgement.lbw), target)
    else:
        write_bytes(target, source.read_bytes())
    return [one.what for one in look(read_file(target), architecture_of(base)) if not one.passes]
