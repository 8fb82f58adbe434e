"""``phdl serve``: the pages."""

from __future__ import annotations

from typing import Annotated

import typer

from phdl_catalog.cli.output import stderr


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(serve)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
) -> None:
    """Serve pages on fit runs and catalogues; it runs until it is stopped.

    Each catalogue has a page of its own: what it is made of, how good its labels are, and the figures of its
    calibration set.
    """
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    from phdl_catalog.database.session import connect
    from phdl_catalog.errors import ServiceError
    from phdl_catalog.web.status import StatusApplication

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Handler(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            stderr.print(f"{self.address_string()} {format % args}", markup=False, highlight=False)

    try:
        server = make_server(host, port, StatusApplication(connect()), Server, Handler)
    except OSError as error:
        raise ServiceError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port"
        ) from error
    with server:
        stderr.print(f"http://{host}:{server.server_port}/ until Ctrl-C", highlight=False)
        server.serve_forever()
