"""What the dispatcher asks of the broker: send the number of a chunk, and count what waits."""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError

from phdl_catalog.errors import ServiceError
from workers.app import FIT_QUEUE, FIT_TASK

#: What kombu and redis raise when the broker does not answer.
BROKER_ERRORS = (OperationalError, ConnectionError, OSError)


def publish(app: Celery, chunks: list[int]) -> None:
    """Send one message a chunk, its number and nothing else.

    Raises
    ------
    kombu.exceptions.OperationalError
        If the broker does not answer; some of the messages may have been sent.
    """
    if not chunks:
        return
    # A connection of its own: one kept from before the broker went away is of no use.
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        with app.amqp.Producer(connection.default_channel) as producer:
            for chunk in chunks:
                app.send_task(
                    FIT_TASK,
                    args=[chunk],
                    queue=FIT_QUEUE,
                    producer=producer,
                    ignore_result=True,
                    retry=False,
                )


def waiting(app: Celery, queue: str = FIT_QUEUE) -> int:
    """Number of messages of a queue that no worker has taken yet.

    Raises
    ------
    kombu.exceptions.OperationalError
        If the broker does not answer.
    """
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        try:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors:  # a queue that nobody has declared yet
            return 0
        except connection.recoverable_connection_errors as error:
            raise OperationalError(str(error)) from error


def check_broker(app: Celery) -> None:
    """Raise unless the broker answers.

    Raises
    ------
    ServiceError
        Saying what to do.
    """
    try:
        waiting(app)
    except BROKER_ERRORS as error:
        raise ServiceError(
            f"the broker does not answer ({error}); `phdl up` starts the embedded one, PHDL_BROKER_URL names "
            "another"
        ) from error
