"""`pomona serve`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from pomona.cli.contexts import Surroundings
from pomona.cli.output import Out


def serve(
    *,
    model: list[str],
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key_file: Path | None = None,
    store: Path | None = None,
    feedback: Path | None = None,
    max_body: str = "1MB",
    timeout: float = 120.0,
    queue: int = 64,
    concurrency: int = 8,
    threads: int = 1,
    surroundings: Surroundings | None = None,
) -> None:
    """Serve models and sampling strategies behind the OpenAI API, with a page to try them on.

    Clients ask for NAME, or for NAME@STRATEGY such as smollm2@hedged5-mbr. Passages, tools and
    steering are used where a request names
    them: {"pomona": {"context": ["retrieval", "tools", "steering"]}}.

    Parameters
    ----------
    model
        URI, or NAME=URI: a catalogue name, hf:PATH_OR_ID, gguf:PATH, http://HOST/v1#NAME. Give it
        once for each model.
    host
        Address to listen on; others than this machine's own need an API key.
    port
        Port; 0 takes a free one.
    api_key_file
        File of the API keys clients must send, one a line.
    store
        SQLite file that keeps every answer, so that none is paid for twice.
    feedback
        SQLite file for what users say about answers (POST /v1/feedback).
    max_body
        Largest request, as 1MB.
    timeout
        Seconds a request may take.
    queue
        Requests under way or waiting; more are refused with status 429.
    concurrency
        Requests under way at once at a model's server, and answers llama.cpp decodes at once.
    threads
        Threads of models in this process.
    """
    from pomona.models import require

    require("starlette", "uvicorn", "httpx", extra="serve")
    from pomona.serve import ServeSettings, check_host, open_models, parse_size, read_keys, run
    from pomona.web import listening

    keys = () if api_key_file is None else read_keys(api_key_file)
    settings = ServeSettings(
        keys=keys, max_body=parse_size(max_body), timeout=timeout, queue=queue, feedback=feedback
    )
    check_host(host, settings)
    with listening(host, port) as bound, (surroundings or Surroundings()).contexts() as contexts:
        models = open_models(
            model, store=store, concurrency=concurrency, threads=threads, timeout=timeout
        )
        shown = f"[{host.strip('[]')}]" if ":" in host else host
        Out("human").line(f"http://{shown}:{bound.getsockname()[1]}")
        sys.stdout.flush()
        run(models, replace(settings, contexts=contexts), bound)
