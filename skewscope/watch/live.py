"""Puts a live service together: feed, store, receivers, API and its server."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..errors import UsageError
from ..feeds.contract import Feed
from ..web.access import Access
from ..web.post import check, post
from ..web.server import Server
from . import history
from .acting import Acting, ActOptions, engine_of
from .alarms import Alarms
from .api import Api
from .history import History
from .horizon import LENGTH
from .incidents import Patience
from .notify.alertmanager import Alertmanager
from .notify.messages import chat, notification
from .notify.outbox import Outbox
from .plan import Plan, Shelf
from .service import Service

SPARE_FILES = 256  # beside one for each target


@dataclass(frozen=True)
class Options:
    """What a live service is made of. `link` is where people reach it; "" takes the address it listens at."""

    listen: str = "127.0.0.1:9710"
    web_config: Path | None = None
    allow_plain: bool = False
    folder: Path | None = None
    store: Path | None = None
    keep_s: float = 86_400.0
    keep_bytes: int = 5 * 10**9
    alertmanagers: Sequence[str] = ()
    webhooks: Sequence[str] = ()
    chats: Sequence[str] = ()
    access: Access = field(default_factory=Access)  # to Alertmanagers
    link: str = ""
    length: int = LENGTH
    patience: Patience = field(default_factory=Patience)
    only: Sequence[str] = ()
    act: ActOptions | None = None


class Live:
    """A service and its server. `start` opens the door, `run` watches until `stop`."""

    def __init__(self, feed: Feed, options: Options) -> None:
        """Make all parts; raises UsageError for an address, file or folder that cannot be meant."""
        self.api = Api()
        self.server = Server(
            options.listen, self.api.pages, web_config=options.web_config, allow_plain=options.allow_plain
        )
        self._options, self._feed = options, feed
        self._store: Shelf | None = None
        self._stopping = False
        self.service: Service | None = None

    @property
    def address(self) -> str:
        """Where it listens, as a URL; known after `start`."""
        host, port = self.server.address
        if not port:
            return host
        return f"http{'s' * self.server.secure}://{f'[{host}]' if ':' in host else host}:{port}"

    def start(self) -> None:
        """Open store and server; raises UsageError, or StoreError for a store that is taken or damaged."""
        if self._options.folder is not None:
            _made(self._options.folder)
        self.server.start()
        try:
            self._assemble(self._options)
        except BaseException:
            self.close()
            raise

    def _assemble(self, options: Options) -> None:
        from ..store import Store

        if options.store is not None:
            self._store = Store(options.store, keep_s=options.keep_s, keep_bytes=options.keep_bytes)
        link, acting = options.link or self.address, _acting(options)
        plan = Plan(
            self._feed, self.api.update, options.folder, self._store, _alertmanagers(options), _outboxes(options, link),
            link, options.length, options.patience, options.only, acting, _history(options),
        )  # fmt: skip
        if acting is not None:
            self.api.acts = lambda: acting.account.document
        self.service = Service(plan)

    def run(self) -> None:
        """Watch until `stop`, then close everything."""
        try:
            if self.service is not None and not self._stopping:
                self.service.run()
        finally:
            self.close()

    def stop(self) -> None:
        """End `run` after what is under way; one that has not begun does not begin."""
        self._stopping = True
        if self.service is not None:
            self.service.stop()

    def close(self) -> None:
        """Close server and store."""
        self.api.close()
        self.server.stop()
        if self._store is not None:
            close = getattr(self._store, "close", None)
            if close is not None:
                close()


def _history(options: Options) -> History | None:
    told = ((options.folder, history.NAME), (options.store, history.HIDDEN))
    paths = [folder / name for folder, name in told if folder is not None]
    return History(paths) if paths else None


def _acting(options: Options) -> Acting | None:
    if options.act is None:
        return None
    return Acting(engine_of(options.act), Alarms(options.alertmanagers, options.access))


def _alertmanagers(options: Options) -> list[Alertmanager]:
    return [
        Alertmanager(url, options.access, options.folder, str(number))
        for number, url in enumerate(options.alertmanagers)
    ]


def _outboxes(options: Options, link: str) -> list[Outbox]:
    made = []
    for kind, urls, make in (("webhook", options.webhooks, notification), ("chat", options.chats, chat)):
        for number, url in enumerate(urls):
            check(url)
            made.append(Outbox(f"{kind}-{number}", partial(_linked, make, link), partial(_send, url), options.folder))
    return made


def _linked(make, link, what, incident):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - bound by partial
    return make(what, incident, f"{link}/api/v1/incidents/{incident['id']}" if link else "")


def _send(url: str, body: bytes, key: str) -> None:
    post(url, body, key=key)


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        raise UsageError(f"{folder}: the folder for the state cannot be made: {error.strerror or error}") from None


def open_files_for(targets: int) -> None:
    """Let this process have a connection to each target, as far as the hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = targets + SPARE_FILES
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
