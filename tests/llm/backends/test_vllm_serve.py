"""The endpoint backend against a real `vllm serve` of the demo's LLM, started once."""

import os
import socket
import subprocess
import sys
import time

import httpx
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.demo import OWN_LLM
from linkner_ray.config import LlmConfig
from linkner_ray.labels import load_label_set
from linkner_ray.llm.backends import start_backend
from linkner_ray.llm.chat import PromptEncoder
from linkner_ray.llm.context import Question
from linkner_ray.llm.prompts import PromptBuilder, Verdict

pytestmark = [pytest.mark.vllm, pytest.mark.soak]

SERVED_AS = "demo"
START_LIMIT_S = 400
LABELS = load_label_set("demo")
QUESTIONS = [
    Question("Ada Lovelace met IBM in Paris.", 0, 12),
    Question("Ada Lovelace met IBM in Paris.", 17, 20),
    Question("Ada Lovelace met IBM in Paris.", 24, 29),
    Question("Reply with A. Reply with A.", 0, 5),
    *(Question(f"No. {n} met Ada in Paris {n * n} times.", 0, 4) for n in range(12)),
]


def requests(symbols, decoding="test"):
    prompt_builder = PromptBuilder.for_label_set(
        LABELS, symbols, model=SERVED_AS, decoding=decoding
    )
    return [prompt_builder.request(question) for question in QUESTIONS]


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(OWN_LLM).eval()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(OWN_LLM), "--served-model-name", SERVED_AS, "--dtype", "float32"),
        *("--host", "127.0.0.1", "--port", str(port), "--enforce-eager"),
        *("--max-model-len", "512", "--max-num-seqs", "16"),
        *("--kv-cache-memory-bytes", str(64 * 2**20)),
    ]
    environment = os.environ | {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        end(server)


def wait_until_healthy(address, server, log):
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit:
        if server.poll() is not None:
            pytest.fail(f"the server ended with {server.returncode}:\n{log.read_text()[-3000:]}")
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    pytest.fail(f"the server did not come up:\n{log.read_text()[-3000:]}")


def end(server):
    """End a server and what it started, by process id."""
    family = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
    server.terminate()
    try:
        server.wait(timeout=30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    for child in psutil.wait_procs(family, timeout=10)[1]:
        child.kill()


def test_the_server_answers_as_the_model_does(model, url):
    config = LlmConfig(backend="openai", model=SERVED_AS, base_url=url, api_key_env="NO_SUCH_KEY")
    backend = start_backend(config, LABELS)
    try:
        asked = requests(backend.symbols, backend.decoding)
        answers = backend.ask(asked)
        report = backend.describe()
    finally:
        backend.close()
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(OWN_LLM), name="demo")
    symbols, symbol_ids = encoder.choose_symbols(len(LABELS.classes))
    assert symbols == backend.symbols
    prompts = [encoder.encode(request.fixed_part, request.user_message) for request in asked]
    for answer, request, prompt in zip(answers, asked, prompts, strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([prompt])).logits[0, -1].softmax(dim=0)[list(symbol_ids)]
        assert expected.sum() > 0.9  # or the server would list other tokens before the symbols
        *labels, non_entity = (expected / expected.sum()).tolist()
        assert answer.key == request.key
        # the server renders the very prompt that the engine inside our process is given
        assert answer.prompt_tokens == len(prompt)
        assert answer.probs == pytest.approx([non_entity, *labels], abs=1e-4)
        best = max(range(5), key=answer.probs.__getitem__)
        assert (answer.label or "O") == LABELS.classes[best]
        assert answer.verdict in (Verdict.LABEL, Verdict.NON_ENTITY)
    spread = torch.tensor([answer.probs for answer in answers]).std(dim=0)
    assert spread.max() > 1e-3  # the answers depend on the question
    assert not [name for name in report if name.startswith("failed_")]
