"""`distkit metrics`: a prefix for Prometheus."""

from __future__ import annotations

import signal
import threading

import click

from distkit.cli.connection import Failed, connected, url_and_prefix

MOST = 1000


def _listen(_context: object, _parameter: object, value: str) -> tuple[str, int]:
    host, separator, port = value.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter("it must be HOST:PORT, as 127.0.0.1:9121")
    return host.strip("[]"), int(port)


@click.command()
@url_and_prefix
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:9121", show_default=True,
              callback=_listen, help="Where Prometheus fetches the numbers.")  # fmt: skip
@click.option("--match", metavar="GLOB", help="Only counters whose keys match, as h*llo.")
@click.option("--most", type=click.IntRange(1), default=MOST, show_default=True,
              help="How many counters a scrape reads at most.")  # fmt: skip
def metrics(url: str, prefix: str, listen: tuple[str, int], match: str | None, most: int) -> None:
    """Serve the numbers of a prefix to Prometheus, until Ctrl-C."""
    from prometheus_client import CollectorRegistry, start_http_server

    from distkit.metrics.prometheus import PrefixCollector

    host, port = listen
    registry = CollectorRegistry(auto_describe=True)
    with connected(url) as client:
        client.ping()
        registry.register(PrefixCollector(client, prefix, match=match, most_counters=most))
        try:
            server, thread = start_http_server(port, host, registry)
        except (OSError, OverflowError) as error:
            raise Failed(f"cannot listen on {host}:{port}: {error}") from error
        click.echo(f"http://{host}:{server.server_port}/metrics")
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        try:
            stopped.wait()
        except KeyboardInterrupt:
            pass
        finally:
            server.shutdown()
            thread.join()
