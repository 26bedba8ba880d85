"""Hub ids: fetched where the hub gives them, else told in a line what to do instead."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants as constants
import pytest
import torch
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from tests.serving import serving
from trainer.base_model.fingerprint import fingerprint_base
from trainer.base_model.load import check_family, describe_base, load_base
from trainer.errors import ModelError
from trainer.families.hub import _within

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """A hub on this machine that gives the files of folders; `asked` holds the paths of all requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories: dict[str, Path] = {}
        self.refused: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = self.path.partition("?")[0]
        words = path.strip("/").split("/")
        name = "/".join(words[2:4] if words[0] == "api" else words[:2])
        if name in self.server.refused or name not in self.server.repositories:
            status, code = self.server.refused.get(name, (404, "RepoNotFound"))
            return self._send(status, b"{}", {"X-Error-Code": code})
        folder = self.server.repositories[name]
        files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
        if "tree" in words:
            entries = [
                {"type": "file", "path": path, "size": file.stat().st_size, "oid": "1" * 40}
                for path, file in files.items()
            ]
            return self._send(200, json.dumps(entries).encode())
        if words[0] == "api":
            about = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]}
            return self._send(200, json.dumps(about).encode())
        file = files["/".join(words[4:])]
        return self._send(200, file.read_bytes(), {"ETag": f'"{file.stat().st_size}-{len(str(file))}"'})

    do_HEAD = do_GET

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    server = Hub()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    with serving(server):
        yield server


def test_a_base_is_fetched_without_what_it_does_not_need(hub, tiny_sd15, tmp_path) -> None:
    repository = shutil.copytree(tiny_sd15, tmp_path / "repository")
    (repository / "v1-5-pruned.safetensors").write_bytes(b"x" * 100)
    (repository / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"x" * 100)
    (repository / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"x" * 100)
    (repository / "safety_checker").mkdir()
    (repository / "safety_checker" / "model.safetensors").write_bytes(b"x" * 100)
    hub.repositories["onset/tiny"] = repository
    assert describe_base("onset/tiny") == describe_base(tiny_sd15)
    assert check_family("onset/tiny").name == "sd15"
    assert not [path for path in hub.asked if path.endswith(".safetensors")]
    base = load_base("onset/tiny")
    expected = load_base(tiny_sd15)
    for name, tensor in expected.denoiser.state_dict().items():
        assert torch.equal(base.denoiser.state_dict()[name], tensor)
    assert base.source == "onset/tiny"
    assert fingerprint_base("onset/tiny") == fingerprint_base(tiny_sd15)
    fetched = {path.partition(f"/resolve/{COMMIT}/")[2] for path in hub.asked if "/resolve/" in path}
    assert fetched == {str(file.relative_to(tiny_sd15)) for file in tiny_sd15.rglob("*") if file.is_file()}


def test_what_is_whole_in_the_cache_is_not_asked_for_again(hub, tiny_sd15) -> None:
    hub.repositories["onset/tiny"] = tiny_sd15
    load_base("onset/tiny")
    hub.asked.clear()
    load_base("onset/tiny")
    assert hub.asked == []


@pytest.mark.parametrize("lost", ["vae/config.json", "model_index.json"])
def test_a_download_that_was_broken_off_goes_on(hub, tiny_sd15, lost: str) -> None:
    hub.repositories["onset/tiny"] = tiny_sd15
    check_family("onset/tiny")  # the small files alone
    [file] = Path(constants.HF_HUB_CACHE).rglob(lost)
    file.unlink()
    assert load_base("onset/tiny").family.name == "sd15"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((404, "RepoNotFound"), "the hub has no such repository"),
        ((401, "RepoNotFound"), "the hub has no such repository"),
        ((403, "GatedRepo"), "asks for an account"),
        ((503, ""), "the hub answers 503"),
    ],
)
def test_what_the_hub_answers_is_told(hub, answer, reason) -> None:
    hub.refused["onset/absent"] = answer
    with pytest.raises(ModelError, match=reason) as caught:
        check_family("onset/absent")
    assert str(caught.value).startswith("onset/absent: ")
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_told_with_what_to_name_instead(hub) -> None:
    hub.server_close()
    with pytest.raises(ModelError, match="the hub cannot be reached") as caught:
        check_family("onset/absent")
    assert "name a diffusers folder or a .safetensors file instead" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_offline_mode_is_told(hub, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="the hub is not asked, as HF_HUB_OFFLINE is set"):
        check_family("onset/absent")
    assert hub.asked == []


def test_a_repository_of_single_files_says_which_to_take(hub, tmp_path) -> None:
    hub.repositories["onset/single"] = tmp_path / "single"
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"no diffusers folder .*; download model.safetensors and name that file"):
        check_family("onset/single")


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OfflineModeIsEnabled(), "the hub is not asked, as it is switched off"),
        (LocalEntryNotFoundError("x"), "not whole in the hub's cache; the hub cannot be reached: name a"),
        (OSError("no\n route"), "not whole in the hub's cache; the hub cannot be reached (no route): name a"),
        (OSError(28, "no space"), "onset/tiny: cannot be downloaded: [Errno 28] no space"),
        (ValueError("x" * 200), f"the hub cannot be reached ({'x' * 120}): name a"),
        (ValueError(), "the hub cannot be reached (ValueError): name a"),
        (HFValidationError("x"), "no such folder here, and the hub has no such repository"),
    ],
)
def test_whatever_goes_wrong_at_the_hub_is_one_line(hub, monkeypatch, raised: Exception, said: str) -> None:
    def fail(self, repository: str, timeout: float) -> None:
        raise raised

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
    with pytest.raises(ModelError) as told:
        check_family("onset/tiny")
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_an_answer_is_waited_for_so_long_and_no_longer() -> None:
    assert _within(30, lambda: 3) == 3
    with pytest.raises(KeyError, match="as it is"):
        _within(30, lambda: {}["as it is"])
    late = threading.Event()
    with pytest.raises(TimeoutError, match="no answer in 0 s"):
        _within(0.05, late.wait)
    late.set()
