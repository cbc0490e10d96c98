"""Secrets of the environment are planted and searched for: no file, log, report or error message holds one."""

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest

from r2a_core.config import EndpointParams, ModelParams, parse
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.openai_api.client import Client
from tests.study import ROOT, Ended, Study, study_of_texts

CANARY = "c4n4ryS3cretOfNobody7719"
VARIABLES = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "DEEPSEEK_API_KEY", "MY_ENDPOINT_KEY"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "R2A_SECRET", "SSH_PASSWORD"),
)
TAGS = {"bos": "<s>", "eos": "</s>", "think_open": "<think>", "think_close": "</think>"}
SERVED: dict[str, Any] = {
    "base_url": "http://127.0.0.1:9",  # nobody listens there
    "model": "m",
    "key_env": "MY_ENDPOINT_KEY",
    "timeout_seconds": 2.0,
    "concurrency": 1,
    "attempts": 2,
}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Study:
    for name in VARIABLES:
        monkeypatch.setenv(name, f"{name[:3]}-{CANARY}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return study_of_texts(tmp_path, monkeypatch, capfd)


def shapes(secret: str) -> list[bytes]:
    """A secret as it stands and as tools write it: reversed bytes, base64 at each offset, hex."""
    plain = secret.encode()
    encoded = [base64.b64encode(b"x" * shift + plain)[4 * ((shift + 2) // 3) + 1 : -4] for shift in range(3)]
    return [plain, plain.hex().encode(), plain[::-1], *encoded]


def check_clean(study: Study, ended: list[Ended], log: str) -> None:
    """No output of a stage and no file that one wrote holds the canary."""
    spoken = "\n".join(part for each in ended for part in (each.out, each.err)) + log
    assert CANARY not in spoken
    files = [path for path in study.root.rglob("*") if path.is_file()]
    assert len(files) >= 3
    for path in files:
        content = path.read_bytes()
        assert not any(shape in content for shape in shapes(CANARY)), path
        assert CANARY not in path.name


def test_a_study_leaves_no_secret_behind(study: Study, caplog: pytest.LogCaptureFixture) -> None:
    """From the dataset to the report, with tokens of all services in the environment."""
    for shift in range(3):  # the search finds what it looks for
        assert any(shape in base64.b64encode(b"y" * shift + CANARY.encode() + b"zz") for shape in shapes(CANARY))
    texts = ("tiny", "texts")
    stages: list[tuple[str, ...]] = [
        *(("prepare_dataset", "texts"), ("prepare_model", "tiny")),
        *(("generate", *texts, f"{setting}_reasoning") for setting in ("with", "without")),
        *(("judge", *texts), ("evaluate", *texts), ("capture", *texts, "with_reasoning"), ("report",), ("doctor",)),
        *(("prepare_dataset", "built_in_pairs"), ("select_pairs",)),
    ]
    ended = [study.run(*stage) for stage in stages]
    assert [each.code for each in ended] == [0] * len(ended), [each.err for each in ended]
    assert study.paths.page.stat().st_size > 10_000
    check_clean(study, ended, caplog.text)


HUB = {"kind": "hub", "revision": "main", "dtype": "float32", "tags": TAGS}
BAD: dict[str, dict[str, Any]] = {
    "a login in a Hub name": HUB | {"hub_id": f"https://me:{CANARY}@huggingface.co/a/b"},
    "a key in a Hub name": HUB | {"hub_id": f"https://huggingface.co/a/b?token={CANARY}"},
    "a token of the Hub for a revision": HUB | {"hub_id": "a/b", "revision": f"hf_{CANARY}abcdefghijkl"},
    "a login in a path": {"kind": "local", "path": f"ssh://me:{CANARY}@host/m", "dtype": "float32", "tags": TAGS},
    "a list of keys": HUB | {"hub_id": [f"sk-{CANARY}"]},
    "a Hub out of reach": HUB | {"hub_id": "a/b"},
}


@pytest.mark.parametrize("case", BAD)
def test_errors_hold_no_secret(study: Study, caplog: pytest.LogCaptureFixture, case: str) -> None:
    study.write_params(models={"tiny": BAD[case]})
    ended = [study.run("prepare_model", "tiny"), study.run("doctor", "--params-only")]
    assert ended[0].code in (2, 3), ended[0].err
    assert ended[0].last.startswith("hint: ")
    (study.root / "params.yaml").unlink()  # what its author wrote there stays his
    check_clean(study, ended, caplog.text)


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": f"https://me:{CANARY}@api.example.com/v1"},
        {"base_url": f"https://api.example.com/v1?api_key={CANARY}"},
        {"base_url": f"https://api.example.com/v1#{CANARY}"},
        {"base_url": "http://api.example.com"},  # the key would travel in the clear
        {"key_env": f"Bearer {CANARY}"},
    ],
)
def test_an_endpoint_with_a_secret_in_it_is_refused_unsaid(change: dict[str, str]) -> None:
    served = {"api": "chat", "send_bos": False, "continues": None, "send_seed": False, "max_tokens": None}
    values = {"kind": "endpoint", "endpoint": SERVED | change, **served}
    with pytest.raises(R2AError) as caught:
        parse(ModelParams, values, "models.x")
    assert caught.value.hint
    assert CANARY not in str(caught.value)


def test_a_server_out_of_reach_hears_no_key_and_its_error_holds_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_ENDPOINT_KEY", CANARY)
    client = Client(EndpointParams(**SERVED))
    with pytest.raises(MissingPrerequisite) as caught:
        client.chat([{"role": "user", "content": "1+1?"}], max_tokens=1, temperature=0.0)
    assert caught.value.hint
    assert CANARY not in str(caught.value) + caplog.text + repr(client) + repr(client.endpoint)


def test_files_in_git_hold_no_access_token() -> None:
    """By what tokens of usual services look like; the tests' own examples are short or made of the alphabet."""
    token = r"\b(hf_[A-Za-z0-9]{34}|sk-[A-Za-z0-9]{32,}|AKIA[0-9A-Z]{16}|ghp_[A-Za-z0-9]{36})\b"
    grep = ["git", "grep", "--untracked", "-IhoE", token]
    found = subprocess.run(grep, cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert not [each for each in found if "abcdef" not in each]
    assert any("abcdef" in each for each in found)
