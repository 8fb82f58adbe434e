"""The synthesis task: one spectrum of a grid to be computed, by its name; and sending many of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from celery import Celery, shared_task

from workers.app import SYNTHESIS_QUEUE, SYNTHESIS_TASK

if TYPE_CHECKING:
    from phdl_catalog.emulator.synthesis.plan import Kind, Spectrum

#: Longest time of one spectrum [s]: some minutes are usual, with millions of lines an hour.
_LONGEST = 4 * 3600


@shared_task(name=SYNTHESIS_TASK, time_limit=_LONGEST)
def synthesize(folder: str, kind: Kind, index: int, moved: str | None = None) -> None:
    """Compute one spectrum of the plan in a folder; one that is there is not computed again.

    Parameters
    ----------
    folder : str
        As this machine sees it.
    kind, index, moved
        Which spectrum, see `phdl_catalog.emulator.synthesis.plan.Spectrum`.
    """
    from phdl_catalog.emulator.synthesis.computing import compute_spectrum
    from phdl_catalog.emulator.synthesis.plan import Spectrum

    compute_spectrum(folder, Spectrum(kind, index, moved))


def send(app: Celery, folder: Path, spectra: Iterable[Spectrum]) -> None:
    """Send a message for each spectrum.

    Raises
    ------
    kombu.exceptions.OperationalError
        If the broker does not answer; some of the messages may have been sent.
    """
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        with app.amqp.Producer(connection.default_channel) as producer:
            for spectrum in spectra:
                app.send_task(
                    SYNTHESIS_TASK,
                    args=[str(folder), spectrum.kind, spectrum.index, spectrum.moved],
                    queue=SYNTHESIS_QUEUE,
                    producer=producer,
                    ignore_result=True,
                    retry=False,
                )


def purge(app: Celery) -> int:
    """Remove the messages that no worker has taken; what they asked for is sent again by who wants it.

    Returns
    -------
    int
        How many there were.
    """
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.queue_declare(SYNTHESIS_QUEUE, durable=True)
        return int(channel.queue_purge(SYNTHESIS_QUEUE) or 0)
