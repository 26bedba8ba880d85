"""report.html: one file that opens offline, says what the verdict says, and holds every trial."""

import re
import shutil
from html.parser import HTMLParser

import pytest

from search.record.json_files import read_json, write_json
from search.record.record import StudyFolder
from search.tuning.importances import parameter_importances
from search.verdict import album
from search.verdict import report as report_module
from search.verdict.charts import score_chart
from search.verdict.report import write_report
from search.verdict.report_facts import facts_of
from search.verdict.sheet import Marks
from search.verdict.verdict import Verdict, finish
from tests.search.finished_studies import PLANS, make_study

_VOID = {"meta", "img", "br", "input", "line", "rect", "circle", "polyline"}


class _Page(HTMLParser):
    """Collects what a test asks about, and fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in _VOID:
            return
        assert self.open, f"</{tag}> without its beginning"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for seen, attrs in self.seen if seen == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def written(finished_study: StudyFolder, tmp_path_factory: pytest.TempPathFactory):
    folder = StudyFolder(tmp_path_factory.mktemp("report") / "runs" / "toy")
    shutil.copytree(finished_study.path, folder.path)
    return folder, Verdict.load(folder.verdict_file), folder.report.read_text(encoding="utf-8")


def test_nothing_is_fetched_from_anywhere(written):
    _, _, text = written
    page = _Page(text)
    assert not page.all("link")
    assert all("src" not in script for script in page.all("script"))
    assert all((img["src"] or "").startswith("data:image/") for img in page.all("img"))
    assert not re.search(r"url\(|@import|https?://", text)
    for anchor in page.all("a"):
        assert "//" not in (anchor["href"] or ""), "links go to files beside the report"


def test_it_says_what_the_verdict_says(written):
    _, verdict, text = written
    page = _Page(text)
    for sentence in verdict.sentences:
        assert sentence in page.text
    assert f"Ship epoch {verdict.epoch} of trial 2" in page.text
    shown = [str(img.get("alt")) for img in page.all("img")]
    over = "of the best trial over its epochs"
    assert {f"Losses and score {over}", f"What the images do, {over}"} <= {*shown}


def test_its_large_numbers_are_the_facts_of_the_verdict_in_their_order(written):
    _, verdict, text = written
    shown = re.findall(r'<div class="fact ([^"]*)"><b>(.*?)</b><span>(.*?)</span>', text)
    assert shown == [(fact.kind, fact.number, fact.word) for fact in facts_of(verdict)]


def test_every_trial_has_a_row_with_its_error_and_its_own_sheet(written):
    _, _, text = written
    page = _Page(text)
    buttons = [b for b in page.all("button") if b.get("class") == "open"]
    assert len(buttons) == len(PLANS)
    assert "the loss is NaN at epoch 4" in page.text
    sheets = [img["alt"] for img in page.all("img") if (img.get("alt") or "").endswith("contact sheet")]
    assert sorted(sheets) == [f"Trial {n}, contact sheet" for n, plan in enumerate(PLANS) if plan.state != "failed"]


def test_the_chart_of_scores_marks_the_winners_line_alone_and_draws_it_last(written):
    page = _Page(written[2])
    lines = [attrs.get("class") for attrs in page.all("polyline") if (attrs.get("class") or "").startswith("line")]
    assert len(lines) > 2
    assert lines == ["line"] * (len(lines) - 1) + ["line best"]


def test_rows_can_be_sorted_by_numbers_not_by_letters(written):
    _, _, text = written
    values = re.findall(r'<tr class="row[^"]*">\s*<td data-v="(\d+)">', text)
    assert sorted(map(int, values)) == list(range(len(PLANS)))
    names = "constant|cosine|adafactor"
    rates = re.findall(rf'<td data-v="([^"]*)">(?:[\d.e-]+|its own)</td>\s*<td data-v="(?:{names})', text)
    assert "6e-05" in rates, "Lion's 3 × 2e-5"


def test_the_grid_shows_prompts_down_and_epochs_across_with_the_shipped_one_marked(written):
    folder, verdict, text = written
    grid = text[text.index('<table class="grid">') : text.index("</table>", text.index('<table class="grid">'))]
    assert grid.count('<th scope="row">') == len(folder.probe().prompts)
    heads = re.findall(r'<th scope="col" class="([^"]*)">([^<]*)<', grid)
    assert heads[0] == ("", "base")
    assert ("ship", f"epoch {verdict.epoch}") in heads
    assert sum(kind == "ship" for kind, _ in heads) == 1
    assert grid.count("<img") == len(heads) * len(folder.probe().prompts)


def test_prompts_are_shown_as_text_never_as_markup(written, tmp_path):
    folder, verdict, _ = written
    copy = StudyFolder(tmp_path / "toy")
    shutil.copytree(folder.path, copy.path)
    about = read_json(copy.cache / "probe" / "probe.json")
    about["prompts"][2] = '<script>alert("x")</script> sks'
    write_json(copy.cache / "probe" / "probe.json", about)
    page = _Page(write_report(copy, verdict).read_text(encoding="utf-8"))
    assert len(page.all("script")) == 1
    assert '<script>alert("x")</script> sks' in page.text


def test_pictures_beyond_the_budget_become_links_to_files_that_exist(written, tmp_path, monkeypatch):
    folder, verdict, _ = written
    monkeypatch.setattr(album, "_MOST_BYTES", 0)
    copy = StudyFolder(tmp_path / "toy")
    shutil.copytree(folder.path, copy.path)
    page = _Page(write_report(copy, verdict).read_text(encoding="utf-8"))
    links = [str(a["href"]) for a in page.all("a") if str(a["href"]).endswith("sheet.png")]
    assert len(links) > len(PLANS) - 2
    assert all((copy.path / link).is_file() for link in links)


def test_what_is_only_linked_is_neither_drawn_nor_encoded(written, tmp_path, monkeypatch):
    folder, verdict, _ = written
    monkeypatch.setattr(album, "_MOST_BYTES", 0)
    monkeypatch.setattr(album, "_webp", None)
    monkeypatch.setattr(report_module, "write_pictures", None)
    copy = StudyFolder(tmp_path / "toy")
    shutil.copytree(folder.path, copy.path)
    assert "sheet.png" in write_report(copy, verdict).read_text(encoding="utf-8")


def test_of_many_trials_the_best_are_told_and_the_others_have_their_row(written, tmp_path, monkeypatch):
    folder, verdict, whole = written
    monkeypatch.setattr(report_module, "_MOST_TOLD", 3)
    monkeypatch.setattr(report_module, "_MOST_LINES", 2)
    copy = StudyFolder(tmp_path / "toy")
    shutil.copytree(folder.path, copy.path)
    text = write_report(copy, verdict).read_text(encoding="utf-8")
    values = re.findall(r'<tr class="row[^"]*">\s*<td data-v="(\d+)">', text)
    assert values == re.findall(r'<tr class="row[^"]*">\s*<td data-v="(\d+)">', whole)  # in the same order
    assert text.count('<tr class="detail"') == 3
    assert text.count('class="open"') == 3
    assert "Of the best 3 more is told here; the others&#39; files are in trials/." in text
    assert "The best 2 trials&#39; scores" in text
    assert re.findall(r'<polyline class="([^"]*)"', text) == ["line", "line best"]


@pytest.mark.parametrize("shipped", [3, 21])
def test_the_epoch_to_ship_is_written_inside_the_chart_at_its_edge_too(shipped):
    chart = str(score_chart([(0, [0, 3, 21], [0.1, 0.2, 0.3])], 0, Marks(shipped=shipped)))
    width = float(re.search(r'viewBox="0 0 (\d+) ', chart)[1])
    x, anchor = re.search(rf'<text x="([\d.]+)"[^>]*text-anchor="(\w+)">ship {shipped}</text>', chart).groups()
    half = 12 * len(f"ship {shipped}") / 2  # a letter is no wider than it is high, 12 pixels
    assert float(x) + {"middle": half, "end": 0}[anchor] < width


def test_importances_name_the_setting_that_was_planted_to_matter(tmp_path):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    optuna.create_study(storage=storage, study_name="s-votes")  # what is put to the vote lies beside it
    space = {
        "rank": optuna.distributions.CategoricalDistribution([4, 8, 16]),
        "rate": optuna.distributions.FloatDistribution(0, 1),
    }
    for number in range(24):
        params = {"rank": (4, 8, 16)[number % 3], "rate": (number * 7 % 24) / 24}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=params["rate"] ** 2))
        if number == 3:
            found = parameter_importances(storage, "s")
            assert not found.shares
            assert "there are 4" in found.reason
    found = parameter_importances(storage, "s")
    assert next(iter(found.shares)) == "rate"
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert found.trials == 24


def test_a_study_of_two_trials_says_why_importances_are_missing(tmp_path, tiny_photos):
    folder = make_study(tmp_path, tmp_path, tiny_photos, PLANS[:2])
    finish(folder)
    assert "at least 6 complete trials, and there is 1" in _Page(folder.report.read_text(encoding="utf-8")).text


def test_the_composites_are_shown_so_that_a_wrong_mask_is_seen(written, tmp_path):
    from PIL import Image

    folder, verdict, before = written
    assert "score.shifted.masks" not in before
    copy = StudyFolder(tmp_path / "toy")
    shutil.copytree(folder.path, copy.path)
    Image.new("RGB", (64, 64), (10, 200, 30)).save(copy.cache / "probe" / "composites.png")
    page = _Page(write_report(copy, verdict).read_text(encoding="utf-8"))
    assert any("put elsewhere" in str(img.get("alt")) for img in page.all("img"))
    assert "score.shifted.masks" in page.text


def test_a_report_of_nothing_is_still_a_page(tmp_path):
    folder = StudyFolder(tmp_path / "empty")
    page = _Page(write_report(folder, Verdict(study="empty")).read_text(encoding="utf-8"))
    assert "no trial got far enough to be scored." in page.text


def test_on_a_phone_each_prompt_stands_above_its_images(written):
    _, _, report_text = written
    grid = report_text[report_text.index('<table class="grid">') :].split("</table>")[0]
    above, beside = grid.count('<tr class="above">'), grid.count('<th scope="row">')
    assert above == beside > 0
    assert grid.count("onset range") <= 1
    assert "new context" in grid
