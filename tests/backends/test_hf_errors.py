"""What is wrong with a transformers member is said before anything is loaded. No test here needs torch."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_gguf import base, header, write

from septet.backends.hf import Hf
from septet.core.backend import MemberSpec, Place
from septet.core.errors import BackendError, BadParameter, ConfigError, MissingExtra
from septet.core.prompt import BUILT_IN
from septet.core.types import Query

CONFIG = {"vocab_size": 9, "max_position_embeddings": 128, "num_hidden_layers": 3}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path), {"HF_HOME": str(tmp_path / "hf"), "SEPTET_CACHE": str(tmp_path / "cache")})


def folder(place: Place, name: str = "m", config: Any = CONFIG, **files: str) -> Path:
    made = Path(place.folder, name)
    made.mkdir(parents=True)
    (made / "config.json").write_text(json.dumps(config))
    (made / "model.safetensors").write_bytes(b"")
    for file, text in files.items():
        (made / file).write_text(text)
    return made


@pytest.mark.parametrize("options", [{}, {"model": "m", "gguf": "m.gguf"}])
def test_exactly_one_of_model_package_and_gguf_is_needed(options: dict[str, str]) -> None:
    with pytest.raises(BadParameter, match="exactly one of model, package and gguf"):
        Hf(**options)


def test_an_unknown_device_breaks_the_rule() -> None:
    with pytest.raises(BadParameter, match=r"hf.device: must be"):
        Hf(model="m", device="tpu")  # type: ignore[arg-type]


def test_a_missing_folder_is_named_with_the_command_that_downloads_a_hub_model(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"no folder .*org/name.*hf download org/name"):
        Hf(model="org/name").connect(place)


def test_a_folder_without_a_config_is_no_model(place: Place) -> None:
    Path(place.folder, "m").mkdir()
    with pytest.raises(ConfigError, match=r"m has no config\.json"):
        Hf(model="m").connect(place)


def test_a_config_that_is_no_json_is_named(place: Place) -> None:
    (folder(place) / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"cannot read .*config.json"):
        Hf(model="m").connect(place)


def test_a_folder_without_weights_is_no_model(place: Place) -> None:
    (folder(place) / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="m holds no weights"):
        Hf(model="m").connect(place)


@pytest.mark.parametrize(("option", "limit"), [("context", 128), ("layers", 3)])
def test_more_than_the_model_has_is_refused(place: Place, option: str, limit: int) -> None:
    folder(place)
    with pytest.raises(BadParameter, match=rf"hf.{option}: must be at most {limit}, which m has, got 200"):
        Hf(model="m", **{option: 200}).connect(place)


def test_caps_are_known_without_loading(place: Place) -> None:
    folder(place)
    assert Hf(model="m").connect(place).caps().named() == [
        "text", "samples", "seed", "continues", "stream", "logprobs", "topk 9", "full", "score",
        "prompt_scores", "fork", "hidden", "matrices", "context 128",
    ]  # fmt: skip


def test_a_model_of_text_and_images_has_its_facts_one_level_down(place: Place) -> None:
    folder(place, config={"text_config": CONFIG})
    assert Hf(model="m").connect(place).caps().topk == 9


def test_a_gguf_says_its_layers_and_context(place: Place) -> None:
    write(Path(place.folder, "m.gguf"), header(base(**{"llama.block_count": 2})))
    assert Hf(gguf="m.gguf").connect(place).caps().context == 128
    with pytest.raises(BadParameter, match="must be at most 2, which tiny has"):
        Hf(gguf="m.gguf", layers=3).connect(place)


def test_a_vocabulary_is_named_by_what_the_tokenizer_does_however_its_file_is_laid_out(place: Place) -> None:
    file = folder(place) / "tokenizer.json"
    assert Hf(model="m").connect(place).vocabulary == ""
    described = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}, "decoder": {"type": "ByteLevel"}}
    names = []
    for content in (
        json.dumps(described),
        json.dumps({**described, "truncation": None, "post_processor": {"type": "ByteLevel"}}, indent=2),
        json.dumps({**described, "model": {"type": "BPE", "vocab": {"b": 0, "a": 1}}}),
    ):
        file.write_text(content)
        os.utime(file, ns=(len(names), len(names)))
        names.append(Hf(model="m").connect(place).vocabulary)
    assert names[0] == names[1] != names[2]
    assert all(name.startswith("json:") for name in names)


def test_a_hub_name_is_found_in_the_hubs_cache(place: Place) -> None:
    entry = "hf/hub/models--org--name"
    folder(place, f"{entry}/snapshots/abc")
    Path(place.folder, entry, "refs").mkdir()
    Path(place.folder, entry, "refs", "main").write_text("abc\n")
    assert Hf(model="org/name").connect(place).caps().topk == 9


def test_a_package_that_is_not_installed_gets_the_pip_command(place: Place) -> None:
    with pytest.raises(ConfigError, match="install it with: pip install no-such-model"):
        Hf(package="no-such-model").connect(place)


def test_the_prompt_is_chat_only_where_the_model_has_a_template(place: Place) -> None:
    folder(place, "base")
    folder(place, "file", **{"chat_template.jinja": "{{ messages }}"})
    folder(place, "setting", **{"tokenizer_config.json": '{"chat_template": "{{ messages }}"}'})
    assert [Hf(model=name).prompt(place) for name in ("base", "file", "setting")] == ["qa", "chat", "chat"]


def test_a_base_model_asked_for_chat_suggests_the_qa_prompt(place: Place) -> None:
    folder(place)
    with pytest.raises(ConfigError, match=r'one: m has no chat template.*prompt = "qa"'):
        Hf(model="m").connect(place).member(MemberSpec(name="one", prompt=BUILT_IN["chat"]))


def test_the_matrices_of_a_model_that_is_not_loaded_are_an_error(place: Place) -> None:
    folder(place)
    member = Hf(model="m").connect(place).member(MemberSpec(name="one", prompt=BUILT_IN["qa"]))
    with pytest.raises(BackendError, match="one is not loaded yet"):
        member.matrix("input")


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_the_library_the_first_request_gives_the_install_command(
    place: Place, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for module in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, module, None if module == missing else object())
    folder(place)
    endpoint = Hf(model="m").connect(place)
    member = endpoint.member(MemberSpec(name="one", prompt=BUILT_IN["qa"]))
    with pytest.raises(MissingExtra, match=r'pip install "septet\[hf\]"'):
        asyncio.run(member.complete(Query.of("Why?")))
    asyncio.run(endpoint.aclose())


def test_importing_the_backend_imports_no_heavy_library() -> None:
    code = "import sys, septet.backends.hf; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
