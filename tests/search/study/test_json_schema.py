"""The JSON Schema of a study file: it takes what `load_study` takes, and marks what that refuses."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from search import run
from search.errors import StudyError
from search.study.kinds import KINDS
from search.study.settings import SlurmSection
from search.study.study import SECTIONS, load_study
from trainer.config.config import TrainConfig

STUDIES = Path(__file__).parents[3] / "studies"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    from search.study.json_schema import study_schema

    jsonschema.Draft202012Validator.check_schema(study_schema())
    return study_schema()


def mistakes(schema: dict[str, Any], values: Any) -> list[str]:
    """Dotted places of what an editor would mark."""
    found = jsonschema.Draft202012Validator(schema).iter_errors(values)
    return sorted(".".join(map(str, one.absolute_path)) for one in found)


def test_it_is_printed_without_a_study_file(schema, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(["--schema"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == schema
    assert "yaml-language-server: $schema=" in schema["$comment"]


@pytest.mark.parametrize("file", sorted(STUDIES.rglob("*.yaml")), ids=lambda file: file.name)
def test_the_studies_that_come_along_have_no_mistake(schema, file):
    assert mistakes(schema, yaml.safe_load(file.read_text())) == []


def test_every_field_is_there_and_says_what_it_means(schema):
    train, search = (schema["else"]["properties"][name]["properties"] for name in ("train", "search"))
    assert set(train) == set(TrainConfig.model_fields) - {"base", "data", "reg_data", "seed"}
    assert "rank" in search
    assert "resolution" not in search
    for name, section in [*SECTIONS.items(), *((kind.key, kind) for kind in KINDS)]:
        assert set(schema["else"]["properties"][name]["properties"]) == set(section.model_fields)
        for field in schema["else"]["properties"][name]["properties"].values():
            assert field.get("description") or "$ref" in json.dumps(field)
    assert all(field["description"] for field in (*train.values(), *search.values()))
    assert schema["$defs"]["SlurmSection"]["description"] == SlurmSection.__doc__


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"train": {"rnk": 4}}, "train"),
        ({"train": {"rank": 0}}, "train.rank"),
        ({"train": {"optimizer": "AdamX"}}, "train.optimizer"),
        ({"search": {"rank": {"values": []}}}, "search.rank"),
        ({"search": {"rank": {"min": 1}}}, "search.rank"),
        ({"search": {"rank": {"values": [4], "value": 4}}}, "search.rank"),
        ({"search": {"resolution": {"values": [64]}}}, "search"),
        ({"budget": {"trials": 0}}, "budget.trials"),
        ({"score": {"probe": {"steps": "many"}}}, "score.probe.steps"),
        ({"score": {"prob": {}}}, "score"),
        ({"keep": {"checkpoints": "some"}}, "keep.checkpoints"),
        ({"sampler_": {}}, ""),
    ],
)
def test_it_marks_what_the_study_refuses(changes, where, schema, tmp_path):
    values = {"study": "x", "base": str(STUDIES / "demo/base"), "data": str(STUDIES / "demo/photos")}
    values |= {"score": {"encoder": str(STUDIES / "demo/clip")}}
    assert mistakes(schema, values) == []
    changed = values | {key: {**values.get(key, {}), **value} for key, value in changes.items()}
    assert mistakes(schema, changed) == [where]
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump(changed))
    with pytest.raises(StudyError):
        load_study(file)


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"learning_rate": "1e-4", "resolution": [64, 64], "optimizer_args": {"betas": [0.9, 0.99]}}},
        {"train": None, "search": None, "score": {"encoder": str(STUDIES / "demo/clip")}},
        {"search": {"epochs": [{"value": 8, "when": {"lr_scheduler": "cosine"}}, {"values": [4, 8]}]}},
        {"search": {"learning_rate_scale": {"min": "1e-1", "max": 8, "log": True}}},
        {"checkpoints": {"folder": "output", "held_out": "none"}},
        {"extends": "other.yaml", "budget": {"hours": None}},
    ],
)
def test_it_takes_what_a_study_may_say(changes, schema):
    values = {"study": "x", "base": "demo/base", "data": "demo/photos"}
    assert mistakes(schema, values | changes) == []


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"study": ""}, ["study"]),
        ({"extends": ""}, ["extends"]),
        ({"storage": ""}, ["storage"]),
        ({"storage": None, "from": None}, []),
        ({"seed": "7"}, ["seed"]),
        ({"seed": None, "base": None}, []),
        ({"search": {"rank": []}}, ["search.rank"]),
        ({"search": {"rank": [{"value": 4}, {"values": [4]}]}}, []),
        ({"search": {"rank": {"value": 4, "when": 3}}}, ["search.rank"]),
        ({"search": {"rank": {"min": 1, "max": "8", "log": 1}}}, ["search.rank"]),
        ({"train": {"learning_rate": "1e-4", "min_snr_gamma": "5e0"}}, []),
        ({"train": {"learning_rate": "fast"}}, ["train.learning_rate"]),
        ({"train": {"rank": "1e1"}}, ["train.rank"]),
        ({"budget": {"hours": "1e1"}, "train": {"noise_offset": None}}, []),
        ({"checkpoints": {"folder": "x"}}, ["checkpoints"]),
        ({"checkpoints": {"folder": "x", "held_out": "all"}}, ["checkpoints.held_out"]),
        ({"checkpoints": {"folder": "x", "held_out": ["a.png"]}}, []),
        ({"checkpoints": None, "data_check": None, "search": {"rank": None}}, []),
        ({"flow": ["a.yaml"]}, []),
        ({"flow": []}, ["flow"]),
        ({"flow": ["a.yaml", ""]}, ["flow.1"]),
        ({"flow": ["a.yaml"], "study": "x"}, [""]),
    ],
)
def test_what_an_editor_marks(values, where, schema):
    assert mistakes(schema, values) == where


def test_the_same_field_means_the_same_fixed_and_searched(schema):
    from search.study.json_schema import ENTRY

    train, search = (schema["else"]["properties"][name]["properties"] for name in ("train", "search"))
    for name, entry in search.items():
        assert entry["description"].split() == train[name]["description"].split(" ([")[0].split()
        assert "(how)" not in entry["description"]
    one, many = search["rank"]["anyOf"][:2]
    assert {key: value["description"] for key, value in one["properties"].items()} == ENTRY
    assert many["items"] == one
