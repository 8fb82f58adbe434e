"""Which selected spectra are missing, and how they are cut into chunks, ten million as well as ten.

Missing are those that no run with the same release, model and configuration has.  They are never sorted all
at once, nor sent here: one pass counts them shard by shard, and looks up what is covered where that is; then
a stretch of shards after the other is found by the index on the places of pixels, sorted in memory, and cut.
So the time grows as the number of spectra, and memory as that of shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Row,
    Select,
    cast,
    column,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    table,
    text,
    union_all,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from phdl_catalog.database.models import FitChunk, Spectrum
from phdl_catalog.database.queries import statement

if TYPE_CHECKING:
    from phdl_catalog.database.fit_runs import RunRequest

#: Spectra in a stretch: what is sorted at once, 12 MB of the 32 MB that a sort may have (``work_mem``).
STRETCH = 131_072

_COVERED = table("covered_spectrum", column("spectrum_id"))


@dataclass(frozen=True)
class Stretch:
    """Shards that follow each other, and what is missing of them.

    Parameters
    ----------
    first_shard, last_shard : str
        The first and the last of them.
    spectra : int
        Missing spectra in them.
    first_id, last_id : int
        The least and the greatest key of these spectra.
    """

    first_shard: str
    last_shard: str
    spectra: int
    first_id: int
    last_id: int

    def with_shard(self, row: Row[Any]) -> Stretch:
        """This stretch and the next shard."""
        return replace(
            self,
            last_shard=row.shard,
            spectra=self.spectra + row.missing,
            first_id=min(self.first_id, row.first_id),
            last_id=max(self.last_id, row.last_id),
        )


@dataclass(frozen=True)
class Missing:
    """What enqueueing would add now.

    Parameters
    ----------
    selected : int
        Spectra that are selected.
    covered : bool
        Whether some run has any spectra of the release with this model and configuration already.
    stretches : tuple of Stretch
        Where the missing ones are, in the order of the shards.
    """

    selected: int
    covered: bool
    stretches: tuple[Stretch, ...]

    @property
    def spectra(self) -> int:
        return sum(stretch.spectra for stretch in self.stretches)

    def chunks(self, size: int) -> int:
        """Number of chunks of `size` spectra: the last of a stretch may have fewer."""
        return sum(-(-stretch.spectra // size) for stretch in self.stretches)


@dataclass(frozen=True)
class Added:
    """Chunks that were made, and the spectra in them."""

    chunks: int = 0
    spectra: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(self.chunks + other.chunks, self.spectra + other.spectra)


def find_missing(connection: Connection, request: RunRequest, release_id: int) -> Missing:
    """Count what is selected and what of it is missing.

    What is covered stays in a temporary table for the rest of the transaction: `missing_spectra` and
    `add_chunks` look there.
    """
    connection.execute(text("DROP TABLE IF EXISTS pg_temp.covered_spectrum"))
    connection.execute(
        statement("fit_runs", "covered"),
        {
            "release_id": release_id,
            "model_version_id": request.model.model_version_id,
            "configuration_hash": request.configuration_hash,
        },
    )
    selected, key = request.selection.condition(release_id), Spectrum.spectrum_id
    covered = bool(connection.scalar(select(select(_COVERED).exists())))
    if not covered:
        counted = connection.execute(_by_shard(false(), selected)).all()
        return Missing(sum(row.missing for row in counted), False, _stretches(counted))
    # Two indexes side by side need neither memory nor disk, where a hash of ten million goes to disk.
    connection.execute(text("CREATE INDEX ON pg_temp.covered_spectrum (spectrum_id)"))
    connection.execute(text("ANALYZE pg_temp.covered_spectrum"))
    # Beyond the keys that are covered, where most is while a release grows, nothing need be looked up.
    ends = func.min(_COVERED.c.spectrum_id), func.max(_COVERED.c.spectrum_id)
    first, last = connection.execute(select(*ends)).one()
    among, beyond = key.between(first, last), or_(key < first, key > last)
    missing = _missing(request, release_id) & among
    counted = connection.execute(_by_shard(missing, selected & beyond)).all()
    n_among = connection.scalar(select(func.count(key)).where(selected, among)) or 0
    return Missing(n_among + sum(row.beyond for row in counted), True, _stretches(counted))


def missing_spectra(connection: Connection, request: RunRequest, release_id: int, limit: int) -> list[int]:
    """Some of the missing spectra, by number; `find_missing` first, in the same transaction."""
    chosen = select(Spectrum.spectrum_id).where(_missing(request, release_id)).limit(limit)
    return sorted(connection.scalars(chosen))


def add_chunks(
    connection: Connection, request: RunRequest, release_id: int, run: int, priority: int, missing: Missing
) -> Added:
    """Chunks for all that is missing; neighbours in the pixel store share one, whose pixels are one read.

    Parameters
    ----------
    connection : Connection
        The transaction in which `missing` was found.
    request, release_id
        What is asked for, and its release.
    run, priority : int
        What the chunks belong to.
    missing : Missing
        From `find_missing`.

    Returns
    -------
    Added
        What was added.
    """
    added = Added()
    for stretch in missing.stretches:
        chosen = _missing(request, release_id, covered=missing.covered, stretch=stretch)
        added += _cut(connection, chosen, request.chunk_size, run, priority)
    return added


def _missing(
    request: RunRequest, release_id: int, *, covered: bool = True, stretch: Stretch | None = None
) -> Any:
    """The condition; with a stretch, both what is selected and what is covered are looked at in it alone."""
    selected = request.selection.condition(release_id)
    known = select(literal(1)).select_from(_COVERED).where(_COVERED.c.spectrum_id == Spectrum.spectrum_id)
    if stretch is not None:
        keys = stretch.first_id, stretch.last_id
        selected &= Spectrum.shard.between(stretch.first_shard, stretch.last_shard)
        selected &= Spectrum.spectrum_id.between(*keys)
        known = known.where(_COVERED.c.spectrum_id.between(*keys))
    return selected & ~known.exists() if covered else selected


def _by_shard(missing: Any, uncovered: Any) -> Select[Any]:
    """Query for each shard, in their order: how many are missing, how many of those `uncovered`, their keys.

    Parameters
    ----------
    missing, uncovered
        Conditions of those among the keys that are covered, and of those beyond them; both hold for none.
    """
    key, shard, n = Spectrum.spectrum_id, Spectrum.shard, func.count()
    keys = func.min(key).label("first_id"), func.max(key).label("last_id")
    among = select(shard, n.label("n"), literal(0).label("beyond"), *keys).where(missing).group_by(shard)
    beyond = select(shard, n, n, *keys).where(uncovered).group_by(shard)
    both = union_all(among, beyond).subquery().c
    return (
        select(
            both.shard,
            cast(func.sum(both.n), BigInteger).label("missing"),
            cast(func.sum(both.beyond), BigInteger).label("beyond"),
            func.min(both.first_id).label("first_id"),
            func.max(both.last_id).label("last_id"),
        )
        .group_by(both.shard)
        .order_by(both.shard)
    )


def _stretches(counted: Sequence[Row[Any]]) -> tuple[Stretch, ...]:
    """Neighbouring shards, together until there is enough for a stretch."""
    stretches: list[Stretch] = []
    for row in counted:
        if stretches and stretches[-1].spectra + row.missing <= STRETCH:
            stretches[-1] = stretches[-1].with_shard(row)
        else:
            stretches.append(Stretch(row.shard, row.shard, row.missing, row.first_id, row.last_id))
    return tuple(stretches)


def _cut(connection: Connection, chosen: Any, size: int, run: int, priority: int) -> Added:
    # The place of a spectrum's pixels is unique among those accepted.
    place = func.row_number(type_=BigInteger).over(order_by=(Spectrum.shard, Spectrum.shard_row))
    numbered = select(Spectrum.spectrum_id, ((place - 1) // size).label("number")).where(chosen).subquery()
    ascending = func.array_agg(aggregate_order_by(numbered.c.spectrum_id, numbered.c.spectrum_id.asc()))
    cut = (
        select(literal(run), literal(priority), ascending)
        .group_by(numbered.c.number)
        .order_by(numbered.c.number)
    )
    inserted = (
        insert(FitChunk)
        .from_select(["fit_run_id", "priority", "spectrum_ids"], cut, include_defaults=False)
        .returning(FitChunk.n_spectra)
        .cte("inserted")
    )
    counts = select(func.count(), func.coalesce(func.sum(inserted.c.n_spectra), 0)).select_from(inserted)
    return Added(*connection.execute(counts).one())
