import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from skewscope.watch.alarms import Alarms


@contextmanager
def alertmanager(body, status=200):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_fires_is_told():
    fires = [{"labels": {"alertname": "EtcdDown", "severity": "critical"}, "status": {"state": "active"}}]
    with alertmanager(json.dumps(fires).encode()) as (url, asked):
        assert Alarms([f"{url}/"]).burning() == (({"alertname": "EtcdDown", "severity": "critical"},), "")
    assert asked == ["/api/v2/alerts?active=true&silenced=false&inhibited=false"]


@pytest.mark.parametrize(("body", "status"), [(b"no", 200), (b"{}", 200), (b"[]", 500)])
def test_what_cannot_be_known_is_said_and_holds_everything(body, status):
    with alertmanager(body, status) as (url, _):
        burning, why = Alarms([url]).burning()
    assert burning == () and why.startswith("it is not known which alarms burn")


def test_nobody_is_asked_where_there_is_none():
    assert Alarms([]).burning() == ((), "")
    assert "not known" in Alarms(["http://127.0.0.1:1"]).burning()[1]
