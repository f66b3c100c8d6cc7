"""Signing in and out, with the passwords of the web configuration file."""

from __future__ import annotations

import base64

import flask

from ._plain import hidden, page, refusal
from ._security import Guard
from ._sessions import COOKIE, LASTS_S, Attempts

LONGEST = 200


def install(server: flask.Flask, guard: Guard) -> None:
    """Add /login and /logout."""
    attempts = Attempts()
    server.add_url_rule("/login", "login", lambda: _form(guard), methods=["GET"])
    server.add_url_rule("/login", "signed-in", lambda: _sign_in(guard, attempts), methods=["POST"])
    server.add_url_rule("/logout", "logout", lambda: _ask(guard), methods=["GET"])
    server.add_url_rule("/logout", "signed-out", lambda: _sign_out(guard), methods=["POST"])


def _form(guard: Guard, said: str = "", status: int = 200) -> flask.typing.ResponseReturnValue:
    if not guard.signing_in:
        return flask.redirect("/")
    alert = f'<p role="alert">{said}</p>' if said else ""
    return page(
        "Sign in",
        f'{alert}<form method="post" action="/login"><label>Name <input name="name" autocomplete="username" required '
        f'maxlength="{LONGEST}"></label><label>Password <input name="password" type="password" required '
        f'autocomplete="current-password" maxlength="{LONGEST}"></label><button>Sign in</button></form>',
        status,
    )


def _sign_in(guard: Guard, attempts: Attempts) -> flask.typing.ResponseReturnValue:
    if guard.web is None or not guard.signing_in:
        return flask.redirect("/")
    address = flask.request.remote_addr or ""
    if not attempts.may(address):
        return refusal(429, "Too many attempts failed from here; wait a minute.")
    name, password = flask.request.form.get("name", ""), flask.request.form.get("password", "")
    if not name or ":" in name or max(len(name), len(password)) > LONGEST:
        status = 401
    else:
        packed = base64.b64encode(f"{name}:{password}".encode()).decode()
        status = guard.web.admitted({"authorization": f"Basic {packed}"})
    if status != 200:
        attempts.failed(address)
        return _form(guard, "Name and password do not fit, or too many sign in at once.", status)
    reply = flask.redirect("/", 303)
    reply.set_cookie(
        COOKIE, guard.sessions.begin(name), max_age=int(LASTS_S), secure=guard.secure, httponly=True, samesite="Strict"
    )
    return reply


def _ask(guard: Guard) -> flask.typing.ResponseReturnValue:
    if not guard.signing_in:
        return page("Nobody is signed in", '<p>This dashboard asks for no password.</p><p><a href="/">Overview</a></p>')
    form = f'<form method="post" action="/logout">{hidden({"csrf": guard.token()})}<button>Sign out</button></form>'
    return page("Sign out", form)


def _sign_out(guard: Guard) -> flask.typing.ResponseReturnValue:
    if not guard.token_fits(flask.request.form.get("csrf", "")):
        return refusal(403, "The form is too old; open it again.")
    guard.sessions.end(flask.request.cookies.get(COOKIE, ""))
    reply = flask.redirect("/login" if guard.signing_in else "/", 303)
    reply.delete_cookie(COOKIE, secure=guard.secure, httponly=True, samesite="Strict")
    return reply
