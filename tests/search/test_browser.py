"""The report and the dashboard as a person sees them: in a real browser without a screen."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import optuna
import pytest

from search.dashboard import serve
from search.record.record import StudyFolder
from search.verdict.artifacts import open_store, publish_verdict, upload_trial
from search.verdict.verdict import finish
from tests.search.finished_studies import PLANS, Plan, make_trial
from tests.serving import serving

pytestmark = pytest.mark.services
_BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_ASK = """<script>
window.addEventListener('load', () => {
  const heads = [...document.querySelectorAll('table.trials th button')];
  const scores = () => [...document.querySelectorAll('table.trials tbody tr.row')].map((r) => r.cells[2].dataset.v);
  heads.find((b) => b.textContent === 'score').click();
  const down = scores();
  heads.find((b) => b.textContent === 'score').click();
  const up = scores();
  const open = document.querySelector('table.trials button.open');
  open.click();
  const shown = !open.closest('tbody').rows[1].hidden;
  const find = document.querySelector('input.find');
  find.value = 'prodigy';
  find.dispatchEvent(new Event('input'));
  const left = [...document.querySelectorAll('table.trials tbody')].filter((b) => !b.hidden).length;
  const broken = [...document.images].filter((i) => i.complete && !i.naturalWidth).length;
  const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  document.title = JSON.stringify({down, up, shown, left, broken, wide});
});
</script>"""


def _dom(url: str, profile: Path, width: int = 1280) -> str:
    """The page's markup after its scripts have run."""
    assert _BROWSER, "no Chromium here: apt-get install chromium"
    command = [
        _BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", f"--window-size={width},1000", "--virtual-time-budget=8000", "--dump-dom", url,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def folder(finished_study: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    copy = StudyFolder(tmp_path_factory.mktemp("browser") / "runs" / "toy")
    shutil.copytree(finished_study.path, copy.path)
    finish(copy)
    return copy


@pytest.mark.parametrize("width", [1280, 500])
def test_the_report_sorts_opens_finds_and_fits(folder, tmp_path, width):
    page = tmp_path / "asked.html"
    page.write_text(folder.report.read_text(encoding="utf-8").replace("</body>", f"{_ASK}</body>"), encoding="utf-8")
    title = re.search(r"<title>(\{.*?\})</title>", _dom(page.as_uri(), tmp_path / "profile", width))
    assert title, "the page's script failed"
    told = json.loads(title[1])
    numbers = [float(v) for v in told["down"] if v]
    assert numbers == sorted(numbers, reverse=True)
    assert [float(v) for v in told["up"] if v] == sorted(numbers)
    assert told["down"][-1] == told["up"][-1] == "", "a trial without a score comes last both ways"
    assert told["shown"] is True
    assert told["left"] == sum(plan.config["optimizer"] == "Prodigy" for plan in PLANS)
    assert told["broken"] == 0
    assert told["wide"] is False, "the page scrolls sideways"


def test_the_dashboard_shows_the_sheets_and_the_verdict(folder, tmp_path, tiny_sd15, tiny_photos):
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{folder.database}")
    store = open_store(folder)
    trial = study.ask()
    make_trial(folder, trial.number, Plan(PLANS[0].config), tiny_sd15, tiny_photos)
    upload_trial(trial, folder.trial(trial.number), store)
    study.tell(trial, 0.5)
    publish_verdict(study, folder, finish(folder), store)
    server = serve(folder)
    with serving(server):
        at = f"http://127.0.0.1:{server.server_port}/dashboard/studies/1"
        shown = _dom(f"{at}/trials?numbers={trial.number}", tmp_path / "one")
        assert "sheet.png" in shown
        assert "trajectory.csv" in shown
        assert re.search(r'<img[^>]+src="[^"]*/artifacts/1/', shown)
        assert "Ship epoch" in _dom(f"{at}/note", tmp_path / "two")
