"""What twins read is called what it is, in sentences and plots."""

from dataclasses import replace
from pathlib import Path

import pytest

from metrics.onset.plot import plot_onset
from metrics.onset.turns import Turn
from search.record.twins import Twins
from search.verdict.best_files import PICTURES, PLOT
from search.verdict.decision import decide
from search.verdict.trial_sentences import onset_sentences
from tests.metrics.onset.test_plot import words


@pytest.mark.parametrize("count", [0, 3])
def test_what_twins_read_is_not_called_held_out_photos(finished_study, tmp_path: Path, monkeypatch, count: int) -> None:
    record = next(record for record in finished_study.records() if decide(record).ships)
    both = Turn("found", 9.0, 7.0, None, ("shifted_loss", "heldout_loss"))
    onset = replace(record.onset, context=both, memory=Turn("found", 9.0, 7.0, None, ("heldout_loss",)))
    twins = Twins(count, record.epochs_trained, record.epoch_shipped, count=count, photos=9, onset=onset)
    record = replace(record, onset=onset, twins=twins if count else None)
    told = " ".join(" ".join(onset_sentences(kind, decide(record))) for kind in ("context", "memory"))
    assert ("Measured on moved subjects and photos that its twins left out." in told) == bool(count)
    assert ("Measured on moved subjects and held-out photos." in told) == (not count)
    assert f"photos of the same shoots that {'a twin' if count else 'it'} was not trained on" in told
    assert ("held-out" in told) == (not count)
    asked = []
    monkeypatch.setattr("metrics.onset.plot.plot_onset", lambda *given, **named: asked.append((given, named)))
    draw = next(draw for name, _, draw in PICTURES if name == PLOT)
    draw(finished_study, record, tmp_path / PLOT)
    (_, *given), named = asked[0]
    shown = words(plot_onset(tmp_path / "onset.svg", *given, **{**named, "caption": "", "thumbnails": None}))
    assert ("photos that its" in shown, "twins left out" in shown) == (bool(count), bool(count))
    assert ("held-out photos" in shown) == (not count)
