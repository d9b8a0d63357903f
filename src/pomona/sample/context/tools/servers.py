"""Tools of an MCP server that is started as a program and spoken to over its standard streams."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.sample.context.tools.definition import Refused, Tool

_START = 30.0
_NAMED = re.compile(r"([A-Za-z_]\w*)=(.+)", re.DOTALL)


class McpServer:
    """`async with McpServer(["program", "argument"]) as server:` gives `server.tools`, prefixed
    with `prefix` where one is given.

    command: the program and its arguments; it is started without a shell, with `env` added to a
        minimal environment.
    seconds: the most time a call may take. The program's own messages go to the null device.
    A PomonaError when it does not start, or does not speak MCP within half a minute.
    The connection lives in a task of its own: it may be opened in one task and closed in another,
    of the same event loop. The tools may be called from any loop.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        prefix: str = "",
        seconds: float = 30.0,
    ) -> None:
        if not command:
            remedy = "give a program and its arguments"
            raise PomonaError("no program is named", where="McpServer", remedy=remedy)
        self.command, self.prefix, self.seconds = list(command), prefix, seconds
        self.tools: tuple[Tool, ...] = ()
        self._env = dict(env or {})
        self._client: Any = None
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> McpServer:
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = self._loop.create_future()
        self._task = asyncio.create_task(self._run(ready))
        try:
            await asyncio.wait_for(asyncio.shield(ready), _START)
        except (Exception, asyncio.CancelledError) as error:
            await self.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            reason = "no answer" if isinstance(error, TimeoutError) else _first(error)
            remedy = "does the program run by itself and speak MCP over its standard streams?"
            message = f"the MCP server did not start: {reason}"
            raise PomonaError(message, where=" ".join(self.command), remedy=remedy) from error
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the program."""
        self._over.set()
        if self._task is not None:
            self._task.cancel() if self._client is None else None
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self, ready: asyncio.Future[None]) -> None:
        from mcp import Client, StdioServerParameters, stdio_client

        parameters = StdioServerParameters(
            command=self.command[0], args=self.command[1:], env=self._env or None
        )
        try:
            with Path(os.devnull).open("w") as silent:
                async with Client(stdio_client(parameters, errlog=silent)) as client:
                    self.tools = tuple(self._tool(listed) for listed in await _listed(client))
                    self._client = client
                    ready.set_result(None)
                    await self._over.wait()
        except Exception as error:
            if not ready.done():
                ready.set_exception(error)
        finally:
            self._client = None

    def _tool(self, listed: Any) -> Tool:
        schema = dict(listed.input_schema)

        async def call(arguments: Mapping[str, Any]) -> str:
            from jsonschema import Draft202012Validator

            errors = Draft202012Validator(schema).iter_errors(dict(arguments))
            if problems := [f"{error.json_path}: {error.message}" for error in errors]:
                raise Refused("; ".join(problems))
            return await self._call(listed.name, arguments)

        return Tool(self.prefix + listed.name, listed.description or "", schema, call)

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> str:
        if self._client is None or self._loop is None:
            raise Refused("the tool's server is gone")
        if asyncio.get_running_loop() is not self._loop:
            there = asyncio.run_coroutine_threadsafe(self._call(name, arguments), self._loop)
            return await asyncio.wrap_future(there)
        given, seconds = dict(arguments), self.seconds
        try:
            result = await self._client.call_tool(name, given, read_timeout_seconds=seconds)
        except Exception as error:
            raise Refused(f"the tool's server failed: {_first(error)}") from error
        text = "\n".join(getattr(block, "text", f"({block.type})") for block in result.content)
        if result.is_error:
            raise Refused(text)
        return text


@contextmanager
def running(commands: Sequence[str]) -> Iterator[tuple[Tool, ...]]:
    """The tools of MCP servers that run until the block ends, each from the words of a shell,
    "PROGRAM ARGUMENTS".

    NAME=PROGRAM ARGUMENTS puts NAME_ before the names of its tools. They live in the event loop of
    `answer_now`. A PomonaError when one cannot be read or does not start; those before it are
    ended.
    """
    from pomona.models import wait_for

    servers = [_server(command) for command in commands]
    started: list[McpServer] = []
    try:
        for server in servers:
            wait_for(server.__aenter__())
            started.append(server)
        yield tuple(tool for server in servers for tool in server.tools)
    finally:
        for server in started:
            wait_for(server.close())


def _server(command: str) -> McpServer:
    named = _NAMED.fullmatch(command.strip())
    try:
        words = shlex.split(named[2] if named else command)
    except ValueError as error:
        remedy = "write it as in a shell"
        raise PomonaError(f"cannot be read: {error}", where=command, remedy=remedy) from error
    return McpServer(words, prefix=f"{named[1]}_" if named else "")


async def _listed(client: Any) -> list[Any]:
    page = await client.list_tools(cursor=None)
    tools = [*page.tools]
    while page.next_cursor:
        page = await client.list_tools(cursor=page.next_cursor)
        tools += page.tools
    return tools


def _first(error: BaseException) -> str:
    """What went wrong at the bottom of a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
