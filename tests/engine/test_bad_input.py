"""Bad input from end to end: the message, the exit code, and that nothing is lost. No model is needed here.

What one room can show is tested beside that room:
a misspelt verb or option: tests/cli/test_cli.py, test_run.py · a file that is missing, not text or not TOML, and
each rule of a key: tests/engine/test_config.py · a pool that does not fit, every problem: tests/engine/test_build.py,
tests/cli/test_ask.py, test_check.py, tests/server/test_app.py · every way in which a GGUF can be damaged:
tests/backends/test_llamacpp_errors.py · statuses, broken replies and streams, silence, the key in errors and logs:
tests/backends/test_openai_faults.py · waiting and trying again: tests/engine/test_gate.py · empty, long and
awkward questions: tests/cli/test_ask.py, tests/server/test_transport.py · one member under Ctrl-C:
tests/cli/test_ask.py. With the two real models: tests/local/test_bad_input.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backends.tiny_gguf import base, header
from backends.upstream import CHAT, KEY, Reply, Upstream, chat, half, raw, says
from septet.cli import main

QUESTION = "What is the capital of France?"

CONFIG = """
[members.ada]
backend = "toy"
tokenizer = "words"
answers = { "France" = "Paris." }

[members.bob]
backend = "toy"
answers = { "France" = "Paris." }

[ensembles.fused]
method = "unite"
members = ["ada", "bob"]
k = 5

[limits]
retries = 0
"""


class Told(dict[str, Any]):
    """What the command line printed with --json, and its exit code."""

    code: int


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which holds septet.toml and the store."""
    (tmp_path / "septet.toml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEPTET_STORE", str(tmp_path / "septet.db"))
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], name: str, *settings: str, question: str = QUESTION) -> Told:
    """`septet ask -e NAME --set … QUESTION --json`."""
    given = [word for setting in settings for word in ("--set", setting)]
    code = main(["ask", "--json", "-e", name, *given, question])
    told = Told(json.loads(capsys.readouterr().out))
    told.code = code
    return told


def trace(capsys: pytest.CaptureFixture[str], request: str) -> Any:
    """What the store has of a request."""
    assert main(["trace", "--json", request]) == 0
    return json.loads(capsys.readouterr().out)


# --- the file: every mistake has its place and the near name, and nothing has run ---------------------------


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (
            "[limits]",
            "[limit]",
            "unknown section 'limit' (limit in septet.toml, line 16); did you mean 'limits'?",
        ),
        (
            "[members.ada]",
            "[member.ada]",
            "unknown section 'member' (member in septet.toml, line 2); did you mean 'members' or 'ensembles'?",
        ),
        (
            'backend = "toy"',
            'backend = "toi"',
            "unknown backend 'toi'; did you mean 'toy'? (members.ada.backend in septet.toml, line 3)",
        ),
        (
            '"unite"',
            '"unit"',
            "unknown method 'unit'; did you mean 'unite' or 'uniroute' or 'quantile'?"
            " (ensembles.fused.method in septet.toml, line 12)",
        ),
        (
            '"bob"]',
            '"bop"]',
            "unknown member 'bop' (ensembles.fused.members in septet.toml, line 13); did you mean 'bob'?",
        ),
        (
            "tokenizer",
            "tokeniser",
            "unknown parameter of toy 'tokeniser'; did you mean 'tokenizer' or 'answers'?"
            " (members.ada.tokeniser in septet.toml, line 4)",
        ),
        (
            '{ "France" = "Paris." }\n\n[ens',
            '{ "France" = "Paris." }\nlack = ["topk"]\n\n[ens',
            "unknown parameter of toy 'lack'; did you mean 'lacks' or 'fallback'?"
            " (members.bob.lack in septet.toml, line 10)",
        ),
        (
            "k = 5",
            "kk = 5",
            "unknown parameter of unite 'kk'; did you mean 'k'? (ensembles.fused.kk in septet.toml, line 14)",
        ),
        (
            "k = 5",
            "k = 0",
            "unite.k: must be ≥ 1 and ≤ 1000, got 0 (ensembles.fused.k in septet.toml, line 14)",
        ),
        (
            "retries",
            "retry",
            "unknown parameter of limits 'retry'; did you mean 'retries'? (limits.retry in septet.toml, line 17)",
        ),
        (
            'tokenizer = "words"',
            'prompt = "q"',
            "unknown prompt 'q' (members.ada.prompt in septet.toml, line 4); did you mean 'qa'?",
        ),
        (
            'tokenizer = "words"',
            "temperature = 3",
            "temperature: must be in [0.0, 2.0], got 3 (members.ada.temperature in septet.toml, line 4)",
        ),
        (
            'tokenizer = "words"',
            "price = { usd_per_mtoc_in = 1 }",
            "unknown price 'usd_per_mtoc_in'; did you mean 'usd_per_mtok_in' or 'usd_per_mtok_out' or"
            " 'usd_per_second'? (members.ada.price in septet.toml, line 4)",
        ),
        (
            "k = 5",
            'then = "agent-forrest"',
            "unknown method 'agent-forrest'; did you mean 'agent-forest'?"
            " (ensembles.fused.then in septet.toml, line 14)",
        ),
        (
            "k = 5",
            "then = { samples = 3 }",
            "then: must be a method's name, or a table with one, got {'samples': 3}"
            " (ensembles.fused.then in septet.toml, line 14)",
        ),
        (
            "k = 5",
            "seed = -1",
            "seed: must be in [0, 9223372036854775807], got -1 (ensembles.fused.seed in septet.toml, line 14)",
        ),
        (
            "k = 5",
            'approximate = "yes"',
            "approximate: must be true or false, got 'yes' (ensembles.fused.approximate in septet.toml, line 14)",
        ),
        (
            "[limits]",
            '[prompts.p]\nuser = "Q: {question}"\n[limits]',
            "user: must hold {text}, where the turn is put, got 'Q: {question}'"
            " (prompts.p.user in septet.toml, line 17)",
        ),
        ("[limits]", "[prompts.p]\nopen = 3\n[limits]", "open: must be text, got 3 (prompts.p.open in"),
        ("k = 5", "k = ", "septet.toml is not valid TOML: Invalid value (at line 14, column 5)"),
    ],
)
def test_a_mistake_in_the_file_is_said_with_its_place_and_the_near_name_before_anything_runs(
    folder: Path, capsys: pytest.CaptureFixture[str], right: str, wrong: str, said: str
) -> None:
    (folder / "septet.toml").write_text(CONFIG.replace(right, wrong, 1), encoding="utf-8")
    told = ask(capsys, "fused")
    assert told.code == told["error"]["exit_code"] == 2
    assert told["error"]["message"].startswith(said)
    assert not (folder / "septet.db").exists()


# --- models that are not there -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"hello, I am no model", "is not a GGUF file"),
        (header(base())[:40], "is a damaged GGUF file: its header ends early"),
    ],
    ids=["missing", "no model", "cut off"],
)
def test_a_gguf_that_is_missing_or_corrupt_is_named_before_anything_runs(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    if content is not None:
        (folder / "model.gguf").write_bytes(content)
    told = ask(
        capsys,
        "fused",
        "members.smol={ backend = 'llamacpp', path = 'model.gguf' }",
        "ensembles.fused.members=['ada', 'smol']",
    )
    assert told.code == 2
    assert str(folder / "model.gguf") in told["error"]["message"]
    assert said in told["error"]["message"]
    assert not (folder / "septet.db").exists()


@pytest.mark.parametrize("name", ["smol", "fused", "vote"])
def test_a_missing_extra_is_said_with_the_command_that_installs_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import septet.backends._llama as llama

    monkeypatch.setitem(sys.modules, "llama_cpp", None)  # what Python does where it is not installed
    monkeypatch.setattr(llama, "_library", [])
    (folder / "model.gguf").write_bytes(header(base()))
    told = ask(
        capsys,
        name,
        "members.smol={ backend = 'llamacpp', path = 'model.gguf', prompt = 'qa' }",
        "ensembles.fused.members=['ada', 'smol']",
        "ensembles.vote={ method = 'agent-forest', members = ['ada', 'smol'], samples = 1 }",
    )
    assert (told.code, told["error"]["type"]) == (2, "MissingExtra")
    assert told["error"]["command"] == 'pip install "septet[llamacpp]"'
    assert told["error"]["command"] in told["error"]["message"]


# --- endpoints that fail -----------------------------------------------------------------------------------


@contextmanager
def serving(*replies: Reply) -> Iterator[Upstream]:
    """An upstream on a thread of its own: the command line runs its own event loop in this one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    upstream = Upstream({CHAT: replies})
    try:
        asyncio.run_coroutine_threadsafe(upstream.__aenter__(), loop).result(30)
        yield upstream
        asyncio.run_coroutine_threadsafe(upstream.__aexit__(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def remote(url: str) -> Sequence[str]:
    """Settings for a member at this address, and for a vote that it takes part in."""
    member = f"backend = 'openai', base_url = '{url}', model = 'm', key_env = 'THE_KEY'"
    vote = "method = 'agent-forest', members = ['it', 'ada'], samples = 1"
    return (f"members.it={{ {member} }}", f"ensembles.vote={{ {vote} }}")


FAULTS: Mapping[str, tuple[Reply, str]] = {
    "a wrong key": (says({"error": {"message": "Incorrect API key"}}, 401), "THE_KEY"),
    "429": (says({"error": {"message": "slow down"}}, 429, Retry_After="0"), "slow down"),
    "500": (says({"error": {"message": "it broke"}}, 500), "it broke"),
    "half a reply": (half(b'{"choices": [{"index": 0, "mess'), "broke off its reply"),
    "half a JSON": (raw(b'{"choices": [{"index"', "application/json"), "JSON that is broken or cut off"),
    "no choice": (says({"choices": []}), "answered without any choice"),
    "an empty choice": (says({"choices": [{}]}), "a choice without a message or a text"),
    "not UTF-8": (raw(b'{"choices": [{"text": "\xff"}]}', "application/json"), "bytes that are not UTF-8"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_server_ends_with_exit_code_3_names_the_member_and_is_kept(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    reply, said = FAULTS[fault]
    with serving(reply) as upstream:
        told = ask(capsys, "it", *remote(upstream.url))
    error = told["error"]
    assert (told.code, error["type"], error["member"]) == (3, "BackendError", "it")
    assert said in error["message"]
    kept = trace(capsys, error["request"])
    assert kept["request"]["status"] == "failed"
    assert [call["error"] for call in kept["calls"]] == [error["message"]]
    assert not [f.name for f in folder.iterdir() if KEY.encode() in f.read_bytes()]
    assert KEY not in json.dumps([told, kept])


@pytest.mark.parametrize("fault", FAULTS)
def test_the_other_members_answer_where_a_server_fails_and_the_reason_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    with serving(FAULTS[fault][0]) as upstream:
        told = ask(capsys, "vote", *remote(upstream.url))
    assert (told.code, told["text"]) == (0, "Paris.")
    assert FAULTS[fault][1] in told["verdict"]["reason"]
    assert "[member it, " in told["verdict"]["reason"]
    assert KEY not in json.dumps(told)


def test_after_a_429_the_call_is_made_again_and_the_trace_says_what_was_waited_for(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    busy = says({"error": {"message": "slow down"}}, 429, Retry_After="0")
    with serving(busy, busy, says(chat("Paris."))) as upstream:
        told = ask(capsys, "it", *remote(upstream.url), "limits.retries=2")
    assert (told.code, told["text"], len(upstream.seen)) == (0, "Paris.", 3)
    (call,) = trace(capsys, told["trace_id"])["calls"]
    assert len(call["retries"]) == 2
    assert all("slow down" in retry and "waited 0 s" in retry for retry in call["retries"])


def test_an_endpoint_that_nobody_listens_at_is_named_with_its_address(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    with serving(says(chat("Paris."))) as upstream:
        url = upstream.url  # a port that was free a moment ago, and is again
    told = ask(capsys, "it", *remote(url))
    assert (told.code, told["error"]["member"]) == (3, "it")
    assert url.removeprefix("http://").removesuffix("/v1") in told["error"]["message"]


# --- what is asked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "😀🎉 2+3?",
        "二加三 2+3?",
        "a\0b 2+3?",
        "one\r\ntwo\r\n2+3?",
        " " * 20_000 + "2+3?",
        "e\u0301 2+3? \u2028",
    ],
    ids=["emoji", "CJK", "NUL", "CRLF", "spaces", "combining and separators"],
)
def test_a_question_is_kept_as_it_was_asked(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    told = ask(capsys, "fused", "members.ada.context=0", "members.bob.context=0", question=text)
    assert (told.code, told["text"]) == (0, "5")
    kept = trace(capsys, told["trace_id"])
    assert kept["request"]["query"]["messages"][-1]["content"] == text
    assert [c["input"]["query"]["messages"][-1]["content"] for c in kept["calls"]] == [text, text]


def test_when_a_question_fits_nobody_each_member_says_how_long_it_is_and_what_its_limit_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ask(capsys, "fused", "members.bob.context=50", "members.ada.context=40", question="why? " * 100)
    assert told.code == 3
    for member, limit in (("ada", "40"), ("bob", "50")):
        said = told["error"]["message"]
        assert f"{member}: the prompt has " in said
        assert limit in said.split(f"{member}: the prompt has ")[1].split(";")[0]


# --- being interrupted, and sharing ------------------------------------------------------------------------

SEPTET = [sys.executable, "-c", "from septet.cli import main; raise SystemExit(main())"]


def test_after_ctrl_c_the_trace_keeps_the_calls_that_were_done_and_those_that_were_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (
        "members.slow={ backend = 'toy', latency_seconds = 60.0 }",
        "ensembles.vote={ method = 'agent-forest', members = ['ada', 'slow'], samples = 1 }",
    )
    given = [word for setting in settings for word in ("--set", setting)]
    asking = subprocess.Popen(
        [*SEPTET, "ask", "-e", "vote", *given, QUESTION, "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_a_call(folder / "septet.db")
    os.kill(asking.pid, signal.SIGINT)
    said, more = asking.communicate(timeout=60)
    assert asking.returncode == 130, more
    kept = trace(capsys, json.loads(said)["error"]["request"])
    assert kept["request"]["status"] == "cancelled"
    calls = {call["member"]: call for call in kept["calls"]}
    assert calls["ada"]["output"]["completions"][0]["text"] == "Paris."
    assert calls["ada"]["usage"] == kept["request"]["usage"]
    assert calls["slow"]["error"] == "cancelled"


def wait_for_a_call(store: Path) -> None:
    """Until a call is written down, which is when it is done."""
    for _ in range(600):
        if store.exists():
            with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as db:
                try:
                    if db.execute("SELECT count(*) FROM call").fetchone()[0]:
                        return
                except sqlite3.OperationalError:  # the tables are not there yet
                    pass
        time.sleep(0.05)
    raise AssertionError("no call was made")


ASK_MANY = """
import asyncio, sys
import septet

async def work():
    async with septet.load("septet.toml") as house:
        questions = [f"{sys.argv[1]}: what is {i}+{i}?" for i in range(25)]
        answers = await house["fused"].ask_many(questions, concurrency=5)
        print(*[a.trace_id for a in answers])

asyncio.run(work())
"""


def test_two_processes_write_to_one_store_and_neither_loses_a_request(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ASK_MANY, name], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    ids = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    for name, given in zip(("one", "two"), ids, strict=True):
        assert len(set(given)) == 25
        for i in (0, 24):
            kept = trace(capsys, given[i])
            assert kept["request"]["query"]["messages"][-1]["content"] == f"{name}: what is {i}+{i}?"
            assert (kept["request"]["answer"], kept["request"]["status"]) == (str(2 * i), "done")
    with sqlite3.connect(folder / "septet.db") as db:
        (requests,), (calls,) = (
            db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("request", "call")
        )
    assert (requests, calls) == (50, 100)
