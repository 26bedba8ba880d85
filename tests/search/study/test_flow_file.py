"""A flow file: which studies it names, and every way in which it can be wrong."""

from pathlib import Path

import pytest
import yaml

from search.errors import StudyError
from search.study.flow_file import Flow, Step, final_of, read_flow, refuse_flow
from search.study.study_file import read_study_file
from search.study.taken import taken
from tests.messages import refusal


def write(path: Path, **values: object) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    """A flow of two studies, the second of which trains what ships."""
    write(tmp_path / "search.yaml", study="dog")
    write(tmp_path / "final.yaml", study="dog-final", final={"past": 1.5}, **{"from": "search.yaml"})
    return write(tmp_path / "flow.yaml", flow=["search.yaml", "final.yaml"])


def test_its_studies_run_in_the_order_in_which_they_stand(flow: Path) -> None:
    home = flow.parent
    steps = (Step(home / "search.yaml", "dog"), Step(home / "final.yaml", "dog-final"))
    assert read_flow(str(flow)) == Flow(flow, steps)


def test_what_is_no_flow_is_read_as_what_it_is(flow: Path) -> None:
    for other in (flow.parent / "search.yaml", flow.parent, flow.parent / "nothing.yaml"):
        assert read_flow(other) is None
        refuse_flow(other)
        assert final_of(other) == other


def test_where_one_study_is_meant_a_flow_is_refused_with_the_names_of_its_studies(flow: Path) -> None:
    with pytest.raises(StudyError, match=refusal("flow", "a flow", f"{flow.parent / 'final.yaml'}", flow)):
        refuse_flow(flow)


def test_the_last_study_that_trains_what_ships_is_its_final_one(flow: Path) -> None:
    home = flow.parent
    assert final_of(flow) == home / "final.yaml"
    write(home / "again.yaml", study="again", final={"epoch": 4})
    write(flow, flow=["search.yaml", "final.yaml", "again.yaml"])
    assert final_of(flow) == home / "again.yaml"
    write(flow, flow=["search.yaml"])
    with pytest.raises(StudyError, match="one of its studies"):
        final_of(flow)


def test_each_mistake_is_named_where_it_stands(flow: Path) -> None:
    home = flow.parent
    write(home / "same.yaml", study="dog")
    write(home / "nameless.yaml", study=3)
    write(home / "slash.yaml", study="a/b")
    for named, pattern in (
        ([], refusal("flow", [], "a list of study files", flow)),
        ("search.yaml", refusal("flow", "search.yaml", "a list of study files", flow)),
        ([" "], refusal("flow[0]", " ", "a study file", flow)),
        (["search.yaml", 3], refusal("flow[1]", 3, "a study file", flow)),
        (["gone.yaml"], refusal("flow[0]", "gone.yaml", "a study file", flow)),
        (["flow.yaml"], refusal("flow[0]", "flow.yaml", "a study file", flow) + ".*a flow itself"),
        (["nameless.yaml"], refusal("study", 3, "a name for the folder", home / "nameless.yaml")),
        (["slash.yaml"], refusal("study", "a/b", "a name for the folder", home / "slash.yaml")),
        (["search.yaml", "same.yaml"], refusal("study", "dog", "another name", home / "same.yaml")),
    ):
        write(flow, flow=named)
        with pytest.raises(StudyError, match=pattern) as caught:
            read_flow(flow)
        assert len(caught.value.problems) == 1
    write(flow, flow=["gone.yaml", 3], fow=1)
    with pytest.raises(StudyError) as caught:
        read_flow(flow)
    keys = [line.removeprefix(f"{flow}: ").split(":")[0] for line in caught.value.problems]
    assert keys == ["fow", "flow[0]", "flow[1]"]
    write(flow, flow=[], fow=1)
    with pytest.raises(StudyError) as caught:
        read_flow(flow)
    assert len(caught.value.problems) == 2


def test_what_is_taken_from_another_study_must_be_there_or_come(flow: Path) -> None:
    home, runs = flow.parent, flow.parent / "runs"
    file = read_study_file(home / "final.yaml")
    told, notices = taken(file, runs, ["dog"])
    assert told is not None
    assert (told.study, told.epoch, told.to_come, notices) == ("dog", 1, True, ())
    with pytest.raises(StudyError, match=refusal("from", "search.yaml", "an epoch to ship") + ".*search.yaml"):
        taken(file, runs, ["cat"])
    assert taken(read_study_file(home / "search.yaml"), runs, []) == (None, ())


def test_what_cannot_be_taken_from_is_named(flow: Path) -> None:
    home = flow.parent
    for named, expected in (
        (3, "another study file"), (" ", "another study file"), ("gone.yaml", "that is there"), ("x" * 5000, "there"),
        ("final.yaml", "the file of another study"),
    ):  # fmt: skip
        write(home / "final.yaml", study="dog-final", final={}, **{"from": named})
        with pytest.raises(StudyError, match=rf"from: expected [^\n]*{expected}"):
            taken(read_study_file(home / "final.yaml"), home / "runs", [])
    write(home / "plain.yaml", study="plain", **{"from": "search.yaml"})
    with pytest.raises(StudyError, match=refusal("from", "search.yaml", "nothing") + ".* take something from another"):
        taken(read_study_file(home / "plain.yaml"), home / "runs", ["dog"])
