"""`serve`: from names and files to a server that listens. Nothing of it needs the extra `serve`
before that is looked for.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pomona.models import require

if TYPE_CHECKING:
    from pomona.memory import RowMemory
    from pomona.sample.context import Context


class Server:
    """A server that is to work at `url`, in a `with` block: `wait` answers requests until the
    process is told to stop.
    """

    def __init__(
        self, host: str, bound: socket.socket, work: Callable[[socket.socket], None]
    ) -> None:
        self._bound, self._work = bound, work
        shown = f"[{host.strip('[]')}]" if ":" in host else host
        self.url = f"http://{shown}:{bound.getsockname()[1]}"

    def wait(self) -> None:
        """Serve; requests under way at the end may take 30 seconds to end."""
        self._work(self._bound)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._bound.close()


def serve(
    *,
    model: Sequence[str],
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key_file: str | Path | None = None,
    store: str | Path | None = None,
    feedback: str | Path | None = None,
    max_body: str = "1MB",
    timeout: float = 120.0,
    queue: int = 64,
    concurrency: int = 8,
    threads: int = 1,
    markers_from: Sequence[str] = (),
    contexts: Sequence[Context] = (),
    memory: RowMemory | None = None,
    lookup: float = 0.6,
    examples: int = 2,
    neighbours: int = 5,
    cors: Sequence[str] = (),
    access_log: str | Path | None = None,
    unknown_fields: Literal["refuse", "ignore"] = "refuse",
) -> Server:
    """Serve models and sampling strategies behind the OpenAI API, with a page to try them on.

    Clients ask for NAME, or for NAME@STRATEGY such as smollm2@hedged5-mbr. Passages, tools and
    steering are used where a request names them: {"pomona": {"context": ["retrieval", "tools",
    "steering"]}}.

    Args:
        model: URI, or NAME=URI: a catalogue name, hf:PATH_OR_ID, gguf:PATH, http://HOST/v1#NAME.
            Give it once for each model.
        host: Address to listen on; others than this machine's own need an API key.
        port: Port; 0 takes a free one.
        api_key_file: File of the API keys clients must send, one a line.
        store: SQLite file that keeps every answer, so that none is paid for twice.
        feedback: SQLite file for what users say about answers (POST /v1/feedback).
        max_body: Largest request, as 1MB.
        timeout: Seconds a request may take.
        queue: Requests of one model under way or waiting; more are refused with status 429.
        concurrency: Requests under way at once at a model's server, and answers llama.cpp decodes
            at once.
        threads: Threads of models in this process.
        markers_from: What a model was trained with, where it has no folder that says so: the file
            OUT.markers.json of `pomona markers apply`, or NAME=FILE.
        contexts: What models see where a request names it; `pomona.sample.context.open_contexts`
            opens some.
        memory: Rows that were answered before, which clients may add to (POST /v1/memory) where it
            has a file; `pomona.memory.open_memory` opens some. Contexts "phrases" and, where it
            has one, "selector" answer with what is put together from them.
        lookup: context "lookup": from this similarity on, the nearest row's answer is the answer.
        examples: context "examples": so many of the nearest rows are shown.
        neighbours: context "neighbours": so many rows' answers are candidates, and evidence, for
            mbr.
        cors: Origin whose pages may ask from a browser, as https://my.page; "*" for all, which
            needs API keys. Give it once for each.
        access_log: File that gets a line of JSON for each request, behind what it has; "-" for
            stderr. It holds no text and no key.
        unknown_fields: What becomes of a request's fields that nobody here knows: "refuse" answers
            it with status 400, "ignore" leaves them out. Other servers get them either way.

    Raises:
        PomonaError: a model cannot be opened, the address is taken or open to others without a
            key, a file cannot be read, or the extra is not installed.
    """
    needed = ("starlette", "uvicorn", "httpx", "prometheus_client")
    require(*needed, extra="serve", for_what="to serve models")
    from pomona.places import check_outputs
    from pomona.serve.access import check_log
    from pomona.serve.app import open_markers, open_models, run
    from pomona.serve.settings import ServeSettings, check_host, parse_size, read_keys
    from pomona.web import listening

    log = None if access_log in (None, "-") else access_log
    kept = () if memory is None else memory.paths
    check_outputs(
        {"the access log": log, "the store": store, "the feedback": feedback},
        [*kept, *([] if api_key_file is None else [api_key_file])],
    )
    settings = ServeSettings(
        keys=() if api_key_file is None else read_keys(api_key_file),
        max_body=parse_size(max_body),
        timeout=timeout,
        queue=queue,
        feedback=None if feedback is None else Path(feedback),
        contexts={context.name: context for context in contexts},
        markers=open_markers(model, markers_from),
        memory=memory,
        lookup=lookup,
        examples=examples,
        neighbours=neighbours,
        cors=tuple(cors),
        access_log=access_log,
        unknown_fields=unknown_fields,
    )
    check_host(host, settings)
    if log is not None:
        check_log(log)
    bound = listening(host, port)
    try:
        models = open_models(
            model, store=store, concurrency=concurrency, threads=threads, timeout=timeout
        )
    except BaseException:
        bound.close()
        raise
    return Server(host, bound, lambda bound: run(models, settings, bound))
