"""Names of constraints, indexes and sequences, and what sequences have given out (PostgreSQL)."""

from __future__ import annotations

from typing import NamedTuple

from django_idempotency.reprocessing.swap.base import Swap
from django_idempotency.reprocessing.tables import versioned

_CONSTRAINTS = """
SELECT 'CONSTRAINT', conname, contype::text || pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = to_regclass(%s) AND contype IN ('p', 'u', 'c', 'x', 'f')
"""
_INDEXES = """
SELECT 'INDEX', relname, indisunique::text || substring(pg_get_indexdef(indexrelid) FROM ' USING .*') FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = to_regclass(%s)
AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid)
"""
_SEQUENCES = """
SELECT 'SEQUENCE', relname, attname FROM pg_depend
JOIN pg_class ON pg_class.oid = objid AND relkind = 'S'
JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
WHERE classid = 'pg_class'::regclass AND refobjid = to_regclass(%s) AND deptype IN ('a', 'i')
"""
_SCHEMA = """
SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = to_regclass(%s)
"""


class Named(NamedTuple):
    """A constraint, an index or a sequence; ``definition`` is the same where two tables have the same one."""

    kind: str
    name: str
    definition: str


def named(swap: Swap, table: str) -> list[Named]:
    """Return what of a table has a name of its own."""
    quoted = swap.quote(table)
    found = [Named(*row) for query in (_CONSTRAINTS, _INDEXES, _SEQUENCES) for row in swap.rows(query, quoted)]
    return sorted(found)


def sequences(swap: Swap, table: str) -> list[Named]:
    """Return the sequences of a table; ``definition`` is the column that draws from it."""
    return sorted(Named(*row) for row in swap.rows(_SEQUENCES, swap.quote(table)))


def exchange(swap: Swap, *, retired: str, live: str) -> None:
    """Let the live table have the names that the retired one had; that one's get its version as a suffix."""
    leaving = named(swap, retired) if retired else []
    former = {(item.kind, item.definition): item.name for item in leaving}
    if leaving:
        _rename(swap, retired, {item: versioned(item.name, swap.old_version) for item in leaving})
    suffix = versioned("", swap.new_version)
    own = {item: item.name.replace(swap.new_table, swap.name).removesuffix(suffix) for item in named(swap, live)}
    _rename(swap, live, {item: former.get((item.kind, item.definition), name) for item, name in own.items()})


def _rename(swap: Swap, table: str, wanted: dict[Named, str]) -> None:
    quoted, schema = swap.quote(table), _schema(swap, table)
    for item, wanted_name in wanted.items():
        old, new = swap.quote(item.name), swap.quote(wanted_name)
        if old != new and item.kind == "CONSTRAINT":
            swap.execute(f"ALTER TABLE {quoted} RENAME CONSTRAINT {old} TO {new}")
        elif old != new:
            swap.execute(f"ALTER {item.kind} {schema}.{old} RENAME TO {new}")


def _schema(swap: Swap, table: str) -> str:
    ((schema,),) = swap.rows(_SCHEMA, swap.quote(table))
    return str(schema)


def continue_sequences(swap: Swap) -> None:
    """Let the sequences of the new table go on where those of the old one are, and behind its own rows."""
    old = {item.definition: item.name for item in sequences(swap, swap.old_table)}
    for item in sequences(swap, swap.new_table) if old else ():
        if item.definition in old:
            _continue(swap, old[item.definition], item.name, item.definition)


def _continue(swap: Swap, old: str, new: str, column: str) -> None:
    schema = _schema(swap, swap.new_table)
    tops = " UNION ALL ".join(
        f"SELECT last_value FROM {schema}.{swap.quote(sequence)} WHERE is_called" for sequence in (old, new)
    )
    tops += f" UNION ALL SELECT max({swap.quote(column)}) FROM {swap.quote(swap.new_table)}"
    ((top,),) = swap.rows(f"SELECT max(last_value) FROM ({tops}) AS tops")
    if top is not None:
        swap.rows("SELECT setval(%s::regclass, %s)", f"{schema}.{swap.quote(new)}", top)
