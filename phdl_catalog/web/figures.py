"""Figures of calibration sets for the pages: drawn when first asked for, then kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from io import BytesIO
from threading import Lock

from sqlalchemy import Connection

from phdl_catalog.database.calibration_figures import SetFigures
from phdl_catalog.errors import NotFoundError

#: Figures kept at most, about 100 kB each.
MOST_KEPT = 500


class FigureCache:
    """PNG figures by set and name; a set is never edited, so that a figure stays right."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        # Figures are drawn one at a time: matplotlib is not made for threads, and no request doubles another.
        self._lock = Lock()

    def png(self, connection: Connection, set_id: int, set_name: str, name: str) -> bytes:
        """One figure.

        Parameters
        ----------
        connection : Connection
            Database.
        set_id, set_name : int, str
            The set.
        name : str
            Of the figure, as `SetFigures.names` has them.

        Raises
        ------
        NotFoundError
            If the set has no such figure.
        """
        with self._lock:
            key = (set_id, name)
            if key not in self._kept:
                figures = SetFigures(connection, set_name)
                if name not in figures.names():
                    raise NotFoundError(f"calibration set '{set_name}' has no such figure")
                picture = BytesIO()
                figures.draw(name, picture)
                self._kept[key] = picture.getvalue()
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]
