"""`tuner dashboard`: optuna-dashboard on the studies' storage."""

from __future__ import annotations

from typing import Annotated

import typer

from tuner.cli.coloured import secho
from tuner.cli.common import Storage


def dashboard(
    storage: Storage = None,
    study: Annotated[str | None, typer.Option(help="Start on the page of this study.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Show studies and trials in the browser, until Ctrl-C."""
    import webbrowser
    from contextlib import suppress

    from tuner.report.serve import dashboard_of, is_loopback

    with dashboard_of(storage, study, host, port) as (server, page):
        if not is_loopback(host):
            secho(
                f"warning: everyone who reaches {host}:{server.server_port} can read, change and delete the studies: "
                "the dashboard has no authentication. Put it behind a proxy that has.",
                fg="yellow",
                err=True,
            )
        typer.echo(f"Dashboard at {page} (Ctrl-C ends it)")
        if open_browser:
            webbrowser.open(page)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
