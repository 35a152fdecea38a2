"""What `chaos` needs for small real runs: a corpus, a random model, an LLM, a cluster, victims."""

import gzip
import hashlib
import json
import math
import os
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertConfig, BertModel

from linkner_ray.config import ModelConfig
from linkner_ray.labels import load_label_set
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.subwords import special_ids

LINE = (
    "EU rejects German call . Peter Blackburn met Angela Merkel in Berlin . Microsoft opened in "
    "Paris , London and New York ."
)
WORDS = LINE.split()


def write_corpus(folder: Path, *, seed: int) -> None:
    """Three Parquet shards and a compressed JSONL: 46 pages, some of them bad.

    One is empty, one null, and one line is broken.
    """
    folder.mkdir(parents=True)
    dice = random.Random(seed)  # noqa: S311 - which words a page has is no secret

    def page(number: int) -> str:
        lines = [" ".join(dice.choices(WORDS, k=9)) for _ in range(2)]
        return "\n".join([*lines, f"Page {number} of Berlin ."])

    for shard in range(3):
        texts: list[str | None] = [page(12 * shard + row) for row in range(12)]
        if shard == 1:
            texts[4], texts[7] = None, ""
        ids = [f"p{shard}-{row}" for row in range(12)]
        table = pa.table({"doc_id": ids, "text": pa.array(texts, pa.string())})
        pq.write_table(table, folder / f"{shard}.parquet", row_group_size=4)
    lines = [json.dumps({"doc_id": f"j{n}", "text": page(36 + n)}) for n in range(10)]
    lines[4] = '{"doc_id": "j4", "text": '
    content = "\n".join(lines).encode()
    (folder / "j.jsonl.gz").write_bytes(gzip.compress(content, mtime=0))


def write_checkpoint(folder: Path, *, seed: int) -> None:
    """A random SpanNER of 2 layers, 32 wide, with many and uncertain candidates."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - a token of text
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=special, show_progress=False, initial_alphabet=[]
    )
    tokenizer.train_from_iterator([LINE], trainer)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(**sizes, intermediate_size=64, vocab_size=tokenizer.get_vocab_size())
    model = SpanNER(
        BertModel(config, add_pooling_layer=False),
        tokenizer,
        special_ids(tokenizer),
        label_set=load_label_set("conll03"),
        config=ModelConfig(
            encoder="random", max_width=3, head_width=16, max_subwords=64, window_overlap=24
        ),
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("encoder."):
                parameter.copy_(torch.randn(parameter.shape) * 0.4)
    model.eval().save_pretrained(folder)


class HashedLlm:
    """An endpoint whose probabilities are a digest of the question.

    What is asked, and nothing else, decides the answer: not the order, not what is asked beside
    it, not how often. A real engine's last digits depend on its batches, so bytes could differ
    without a fault of the run.
    """

    def __init__(self, *, delay_s: float) -> None:
        """Serve on a free port of this machine; each answer takes `delay_s`."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                try:
                    body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                except json.JSONDecodeError:  # the client was killed while asking
                    self.close_connection = True
                    return
                time.sleep(delay_s)
                raw = json.dumps(_completion(body["messages"])).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:  # the client was killed
                    self.close_connection = True

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def close(self) -> None:
        """Serve no more."""
        self._http.shutdown()
        self._http.server_close()


def _completion(messages: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON of the API
    digest = hashlib.blake2b(json.dumps(messages).encode(), digest_size=5).digest()
    probs = {
        symbol: (1 + byte) / (5 + sum(digest)) for symbol, byte in zip("ABCDE", digest, strict=True)
    }
    best = max(probs, key=lambda symbol: probs[symbol])
    top = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in probs.items()]
    first = {"token": best, "logprob": math.log(probs[best]), "bytes": None, "top_logprobs": top}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": best},
        "logprobs": {"content": [first]},
    }
    usage = {"prompt_tokens": 42, "completion_tokens": 1}
    return {"id": "1", "choices": [choice], "usage": usage}


class TwoNodes:
    """A Ray of a head and a second node whose raylet may be killed."""

    def __init__(self) -> None:
        """Start both; environment variables set before reach all processes."""
        # A dead node is noticed within seconds, not half a minute.
        os.environ |= {
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_failure_threshold": "5",
        }
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=node)
        self.address = str(self._cluster.address)
        self.add_second()

    def add_second(self) -> None:
        """Add a second node."""
        self._second = self._cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20)

    def kill_second(self) -> int:
        """Kill the second node's raylet, without grace.

        Returns:
            Workers that ran there.
        """
        raylets = self._second.all_processes["raylet"]
        workers = [p for raylet in raylets for p in _family(raylet.process.pid)]
        self._cluster.remove_node(self._second, allow_graceful=False)
        return len([process for process in workers if _is_worker(process)])

    def actors(self, kind: str) -> list[psutil.Process]:
        """Processes of model actors: `encoder` ones have loaded torch, `llm` ones have not."""
        return [
            process
            for process in _family(os.getpid())
            if _is_worker(process) and _has_torch(process.pid) is (kind == "encoder")
        ]

    def close(self) -> None:
        """End both nodes."""
        self._cluster.shutdown()


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _is_worker(process: psutil.Process) -> bool:
    """Whether a process is an actor of Ray Data's pools."""
    try:
        return "MapWorker" in "".join(process.cmdline())
    except psutil.Error:
        return False


def _has_torch(pid: int) -> bool:
    try:
        return "libtorch_cpu" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    except OSError:
        return False
