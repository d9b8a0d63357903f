"""The pages and forms of an arena over HTTP. Who is not logged in sees nothing; no page says whose
an answer is.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from pomona.arena.annotating import people
from pomona.arena.annotating.board import Board
from pomona.arena.annotating.exporting import FORMATS, SCHEMAS, download
from pomona.arena.annotating.forms import (
    OUTCOMES,
    Form,
    key_of,
    languages_of,
    read_form,
    read_said,
    read_written,
    text,
)
from pomona.arena.annotating.guard import Rate, check_origin, check_token, secure
from pomona.arena.annotating.pages import script, show, stylesheet
from pomona.arena.annotating.people import Person, Session
from pomona.arena.annotating.progress import Progress
from pomona.arena.annotating.queue import KINDS, Conflict, Queue, Said, Task
from pomona.arena.annotating.store import Store
from pomona.arena.annotating.words import LANGUAGES, choose
from pomona.documents import parse_json
from pomona.errors import PomonaError, ResourceError
from pomona.pages import Page
from pomona.web import ApiError, Bodies, ClientGone

_log = logging.getLogger("pomona.arena")
_LARGEST = 4_000_000  # bytes of a form: a letter has up to nine
_NEW = "new"  # the task of a prompt that somebody writes


@dataclass(frozen=True)
class ArenaSettings:
    """How an arena works.

    project: its name on every page. write: whether people may write prompts of their own. needed:
    votes of one's own before the leaderboard is shown. lease: seconds that a task is kept for whom
    it was shown. url: the address that people open, where it is not that of the server.
    """

    project: str = "Pomona"
    write: bool = False
    needed: int = 1
    lease: float = 1800.0
    url: str = ""


@dataclass(frozen=True)
class Visit:
    """A request, by whom, and the fields of its form."""

    request: Request
    session: Session | None
    form: Form = field(default_factory=dict)

    @property
    def person(self) -> Person:
        """Who is logged in. ApiError 401 for nobody."""
        if self.session is None:
            raise ApiError(401, "you are not logged in", code="signed_out")
        return self.session.person


Work = Callable[[Visit], Response]


class Arena:
    """The application over a store."""

    def __init__(self, store: Store, settings: ArenaSettings) -> None:
        self.store, self.settings = store, settings
        self.queue, self.progress = Queue(store, settings.lease), Progress(store)
        self.board = Board(store, settings.needed)
        # Two arenas on one machine, at two ports, have one browser's cookies together.
        self.cookie = f"pomona_arena_{sha256(store.seed.encode()).hexdigest()[:8]}"
        self._bodies = Bodies(_LARGEST)
        # Many may come from one address; what each of them asks once is its own.
        self._asked, self._came, self._failed = Rate(60, 10.0), Rate(600, 60.0), Rate(20, 0.2)
        self._told = Rate(1, 1 / 60)

    def application(self) -> Starlette:
        """It closes the store when it ends."""
        routes = [
            Route("/style.css", self._own(stylesheet, "text/css"), methods=["GET"]),
            Route("/script.js", self._own(script, "text/javascript"), methods=["GET"]),
            *(Route(path, self._got(work), methods=["GET"]) for path, work in self._gets()),
            *(Route(path, self._posted(work), methods=["POST"]) for path, work in self._posts()),
        ]
        handlers: Any = {HTTPException: self._unknown, Exception: self._broken}
        application = Starlette(routes=routes, exception_handlers=handlers)
        application.router.redirect_slashes = False  # it would lead behind a proxy to http
        return application

    def _gets(self) -> list[tuple[str, Work]]:
        return [
            ("/", self._home),
            ("/login/{token}", self._invitation),
            ("/board", lambda visit: self._page(visit, "board", **self.board.of(visit.person))),
            ("/guidelines", self._guidelines),
            ("/settings", self._settings),
            ("/lead", self._lead),
            ("/lead/export", self._export),
        ]

    def _posts(self) -> list[tuple[str, Work]]:
        return [
            ("/login/{token}", self._enter),
            ("/logout", self._leave),
            ("/answer", self._answer),
            ("/skip", self._skip),
            ("/undo", self._undo),
            ("/settings", self._settle_in),
            ("/lead/people", self._add_person),
            ("/lead/people/{id}/link", self._link),
            ("/lead/people/{id}/remove", self._remove),
        ]

    # What is shown.

    def _home(self, visit: Visit) -> Response:
        if visit.session is None:
            return self._page(visit, "login")
        person, kind = visit.person, visit.request.query_params.get("kind")
        kinds = self.progress.kinds(person) + ["write"] * self.settings.write
        if kind is not None and kind not in (*KINDS, "write"):
            raise ApiError(404, f'there are no tasks of the kind "{kind[:20]}"')
        task = None if kind == "write" else self._next(person, kind)
        if task is None and "write" in kinds and kind in (None, "write"):
            shown, name = self._new(person), "write"
        else:
            shown, name = (None, "done") if task is None else (self._shown(task), task.kind)
        return self._page(
            visit,
            name,
            task=shown,
            kinds=kinds,
            progress=self.progress.of(person),
            can_undo=self.queue.can_undo(person),
        )

    def _next(self, person: Person, kind: str | None) -> Task | None:
        """The next task, of another kind where none of this one is left."""
        found = None if kind is None else self.queue.next(person, kind)
        return found or self.queue.next(person)

    def _shown(self, task: Task) -> dict[str, Any]:
        names = ("left", "right") if task.kind == "pair" else ("answer",)
        return {
            "id": task.id,
            "kind": task.kind,
            "language": task.language,
            "prompt": _spoken(task.prompt),
            **dict(zip(names, task.completions, strict=True)),
            **self._asked_with(task.said),
        }

    def _new(self, person: Person) -> dict[str, Any]:
        said = self.queue.written_back(person)
        about = {"id": _NEW, "kind": "write", "languages": list(person.languages)}
        return about | self._asked_with(said)

    def _asked_with(self, said: Said | None) -> dict[str, Any]:
        guidelines = self.store.setting("guidelines") or ""
        return {"key": secrets.token_urlsafe(12), "guidelines": guidelines, "said": _told(said)}

    def _invitation(self, visit: Visit) -> Response:
        """The link is used up by the button only: many a mailbox opens all links by itself."""
        self._check_link(visit, people.invited(self.store, visit.request.path_params["token"]))
        return self._page(visit, "login")

    def _guidelines(self, visit: Visit) -> Response:
        _ = visit.person
        text = self.store.setting("guidelines") or ""
        return self._page(visit, "guidelines", guidelines=text)

    def _settings(self, visit: Visit) -> Response:
        person = visit.person
        languages = sorted({*self.progress.languages(), *person.languages})
        return self._page(visit, "settings", languages=languages, interface=person.interface)

    def _lead(self, visit: Visit, link: dict[str, str] | None = None) -> Response:
        _check_lead(visit)
        everybody = people.everybody(self.store)
        for row in everybody:
            row["last"] = row["last"] and time.strftime("%Y-%m-%d %H:%M", time.gmtime(row["last"]))
        languages = self.progress.by_language()
        return self._page(visit, "lead", people=everybody, link=link, languages=languages)

    def _export(self, visit: Visit) -> Response:
        _check_lead(visit)
        what, form = (visit.request.query_params.get(name, "") for name in ("what", "format"))
        if what not in SCHEMAS or form not in FORMATS:
            raise ApiError(404, "what is votes, records or ratings, format csv, jsonl or parquet")
        file = download(self.store, visit.person, what, form)
        gone = BackgroundTask(file.unlink)
        return FileResponse(
            file, media_type=FORMATS[form], filename=f"{what}.{form}", background=gone
        )

    # What is done.

    def _enter(self, visit: Visit) -> Response:
        cookie = people.enter(self.store, visit.request.path_params["token"]) or ""
        session = people.session_of(self.store, cookie)
        self._check_link(visit, session)
        # Who declares no language is shown only what has none.
        lost = session and not session.person.languages and self.progress.languages()
        response = RedirectResponse("/settings" if lost else "/", 303)
        secure_too = urlsplit(self.settings.url).scheme == "https"
        response.set_cookie(
            self.cookie,
            cookie,
            max_age=int(people.SESSION),
            httponly=True,
            samesite="lax",
            secure=secure_too,
        )
        return response

    def _leave(self, visit: Visit) -> Response:
        people.leave(self.store, visit.request.cookies.get(self.cookie, ""))
        response = RedirectResponse("/", 303)
        response.delete_cookie(self.cookie)
        return response

    def _answer(self, visit: Visit) -> Response:
        person, form, key = visit.person, visit.form, key_of(visit.form)
        if form.get("task", [""])[0] == _NEW:
            if not self.settings.write:
                raise ApiError(403, "this arena takes no prompts")
            self.queue.write(person, key, read_written(form, person))
            return _on("write")
        task = self.queue.task(person, form.get("task", [""])[0])
        self.queue.answer(person, task.id, key, read_said(form, task))
        return _on(task.kind)

    def _skip(self, visit: Visit) -> Response:
        task = self.queue.task(visit.person, visit.form.get("task", [""])[0])
        self.queue.skip(visit.person, task.id)
        return _on(task.kind)

    def _undo(self, visit: Visit) -> Response:
        return _on(self.queue.undo(visit.person))

    def _settle_in(self, visit: Visit) -> Response:
        interface = visit.form.get("interface", [""])[0]
        if interface and interface not in LANGUAGES:
            raise ApiError(400, "the page has no words in this language", param="interface")
        languages = languages_of(visit.form)
        people.settle_in(self.store, visit.person.id, languages, interface)
        return RedirectResponse("/settings", 303)

    def _add_person(self, visit: Visit) -> Response:
        _check_lead(visit)
        name, role = (text(visit.form, field, needed=True) or "" for field in ("name", "role"))
        person = people.add_person(self.store, name, role, languages_of(visit.form))
        return self._linked(visit, person.id, person.name)

    def _link(self, visit: Visit) -> Response:
        _check_lead(visit)
        person = people.with_id(self.store, visit.request.path_params["id"])
        return self._linked(visit, person.id, person.name)

    def _linked(self, visit: Visit, person: str, name: str) -> Response:
        token = people.new_link(self.store, person)
        base = self.settings.url or str(visit.request.base_url)
        return self._lead(visit, {"name": name, "url": f"{base.rstrip('/')}/login/{token}"})

    def _remove(self, visit: Visit) -> Response:
        _check_lead(visit)
        if visit.request.path_params["id"] == visit.person.id:
            raise ApiError(409, "you cannot remove yourself")
        people.remove(self.store, visit.request.path_params["id"])
        return RedirectResponse("/lead", 303)

    # How it comes and goes.

    def _own(self, read: Callable[[], str], kind: str) -> Callable[[Request], Any]:
        async def served(request: Request) -> Response:
            body = read().encode()
            tag = f'"{sha256(body).hexdigest()[:16]}"'
            headers = {"etag": tag, "cache-control": "public, max-age=3600"}
            same = request.headers.get("if-none-match") == tag
            response = Response(b"" if same else body, 304 if same else 200, headers, kind)
            secure(response)
            return response

        return served

    def _got(self, work: Work) -> Callable[[Request], Any]:
        async def got(request: Request) -> Response:
            return await asyncio.to_thread(self._answered, request, work, None)

        return got

    def _posted(self, work: Work) -> Callable[[Request], Any]:
        async def posted(request: Request) -> Response:
            try:
                body = await self._bodies.read(request.receive)
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if body and kind != "application/x-www-form-urlencoded":
                    raise ApiError(415, "the body is no form", code="unsupported_media_type")
            except ClientGone:
                return Response(status_code=400)
            except ApiError as error:
                return await asyncio.to_thread(self._refusal, Visit(request, None), error)
            return await asyncio.to_thread(self._answered, request, work, body)

        return posted

    def _answered(self, request: Request, work: Work, body: bytes | None) -> Response:
        visit = Visit(request, None)
        try:
            visit = self._visit(request, body)
            response = work(visit)
        except ResourceError as error:
            return self._refusal(visit, self._unreachable(error))
        except (ApiError, PomonaError) as error:
            return self._refusal(visit, error)
        if not response.headers.get("content-security-policy"):
            secure(response)
        return response

    def _visit(self, request: Request, body: bytes | None) -> Visit:
        if "\0" in request.scope["path"]:  # no database keeps it
            raise ApiError(404, "there is nothing at this address")
        # Old cookies are no attack (nobody guesses 32 bytes): a class may share one address, and
        # have them all.
        cookie = request.cookies.get(self.cookie)
        session = people.session_of(self.store, cookie) if cookie else None
        if session is None:
            self._came.check(_address(request))
        else:
            self._asked.check(session.person.id)
        if body is None and not request.url.path.startswith("/lead/export"):
            return Visit(request, session)
        visit = Visit(request, session)
        check_origin(request, self.settings.url)
        if body is None:
            return visit
        visit = Visit(request, session, read_form(body))
        if not request.url.path.startswith("/login/"):
            _ = visit.person
            assert session is not None
            check_token(session, visit.form.get("csrf", [""])[0])
        return visit

    def _check_link(self, visit: Visit, found: object) -> None:
        if found is None:
            self._failed.check(_address(visit.request))
            remedy = "ask for a new one"
            raise ApiError(403, f"this link is used up, too old or wrong: {remedy}", code="link")

    def _page(self, visit: Visit, name: str, **content: Any) -> Response:
        person = visit.session.person if visit.session else None
        about = None if person is None else vars(person) | {"languages": list(person.languages)}
        language = (person.interface if person else "") or choose(
            visit.request.headers.get("accept-language", "")
        )
        page: Page = show(
            f"{name}.html.j2",
            language,
            project=self.settings.project,
            csrf=visit.session.csrf if visit.session else "",
            person=about,
            path=visit.request.url.path,
            **content,
        )
        response = Response(page.text, media_type="text/html")
        secure(response, page.policy)
        return response

    def _refusal(self, visit: Visit, error: ApiError | PomonaError) -> Response:
        if isinstance(error, ApiError):
            if error.status == 401 and visit.request.method == "GET":
                response = self._page(visit, "login")
                response.status_code = 401
                return response
            status, remedy, headers = error.status, None, error.headers
        else:
            status = 409 if isinstance(error, Conflict) else 400
            remedy, headers = error.remedy, {}
        wait = headers.get("retry-after")
        about = {"message": error.message, "remedy": remedy, "retry_after": wait}
        response = self._page(visit, "error", status=status, **about)
        response.status_code = status
        response.headers.update(headers)
        return response

    def _unreachable(self, error: ResourceError) -> ApiError:
        """Where the database is and what it says is for who runs the server, once a minute."""
        if not self._told.wait(error.message):
            self._told.count(error.message)
            _log.error("%s", error)
        message = "the database does not answer: nothing that was saved is lost, try again soon"
        return ApiError(503, message, headers={"retry-after": "2"})

    def _unknown(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = {404: "there is nothing at this address"}.get(
            error.status_code, HTTPStatus(error.status_code).phrase
        )
        return self._refusal(Visit(request, None), ApiError(error.status_code, message))

    def _broken(self, request: Request, error: Exception) -> Response:
        """A mistake of ours: what is kept is whole, since it was written in one transaction."""
        message = "something went wrong here; nothing was lost that was saved: try again"
        return self._refusal(Visit(request, None), ApiError(500, message))


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _on(kind: str) -> Response:
    """On with tasks of the same kind."""
    return RedirectResponse("/" if kind == KINDS[0] else f"/?kind={kind}", 303)


def _check_lead(visit: Visit) -> None:
    if not visit.person.is_lead:
        raise ApiError(403, "only leads may see this", code="forbidden")


def _spoken(prompt: str) -> str:
    """A prompt as people read it: of a conversation, kept as JSON, who says what."""
    if not prompt.lstrip().startswith("["):
        return prompt
    try:
        messages = parse_json(prompt.encode(), "prompt", top=None)
    except PomonaError:
        return prompt
    said = [
        (str(one.get("role")), one["content"])
        for one in (messages if isinstance(messages, list) else [])
        if isinstance(one, dict) and isinstance(one.get("content"), str)
    ]
    if not said or len(said) < len(messages):
        return prompt
    if len(said) == 1:
        return said[0][1]
    # The role on a line of its own, since each line is written as its own letters are.
    return "\n\n".join(f"{role}:\n{text}" for role, text in said)


def _told(said: Said | None) -> dict[str, Any] | None:
    """What somebody said before, in the words of the form."""
    if said is None:
        return None
    edited = None if said.edited is None else "ab"[said.edited]
    outcome = None if said.outcome is None else OUTCOMES[said.outcome]
    return vars(said) | {"outcome": outcome, "edited": edited}
