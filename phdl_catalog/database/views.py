"""The generated views: ``label_long``, and ``labels_<model>`` with a model's labels as named columns.

They are made by SQL (``migrations/sql/*_views.sql``): a trigger on ``model_version`` makes a model's
partition of ``fit`` and its view in the transaction that registers it, so that neither can be forgotten.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from phdl_catalog.errors import NotFoundError


def label_view(connection: Connection, model: str) -> str:
    """Full name of the view of one model's labels, ``phdl.labels_<model>``.

    Raises
    ------
    NotFoundError
        If no model of that name is registered.
    """
    view = connection.scalar(
        text("SELECT view_name FROM phdl.model_version WHERE name = :name"), {"name": model}
    )
    if view is None:
        raise NotFoundError(f"no model '{model}' is registered; `phdl model list` shows those that are")
    return f"phdl.{view}"


def recreate_label_views(connection: Connection) -> int:
    """Make the partition and the view of every registered model again, where missing or old.

    Returns
    -------
    int
        Number of models.
    """
    made = connection.execute(
        text("SELECT phdl.create_model_objects(model_version_id) FROM phdl.model_version")
    )
    return len(made.all())
