"""What PostgreSQL knows to belong to a table or to depend on it, and a swap of names would leave behind."""

from __future__ import annotations

from collections.abc import Iterator

from django_idempotency.reprocessing.swap.base import Swap

_VIEWS = """
SELECT DISTINCT relkind::text, pg_class.oid::regclass::text FROM pg_depend
JOIN pg_rewrite ON pg_rewrite.oid = objid JOIN pg_class ON pg_class.oid = ev_class
WHERE classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = to_regclass(%s)
AND ev_class <> refobjid ORDER BY 2
"""
_FOREIGN_KEYS = """
SELECT conname, conrelid::regclass::text FROM pg_constraint
WHERE contype = 'f' AND confrelid = to_regclass(%s) AND conrelid <> confrelid ORDER BY 1
"""
_PUBLICATIONS = """
SELECT pubname FROM pg_publication_tables JOIN pg_namespace ON nspname = schemaname
JOIN pg_class ON relnamespace = pg_namespace.oid AND relname = tablename
WHERE pg_class.oid = to_regclass(%s) ORDER BY 1
"""
_TRIGGERS = "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND NOT tgisinternal ORDER BY 1"
_ROW_SECURITY = """
SELECT relname FROM pg_class WHERE oid = to_regclass(%s)
AND (relrowsecurity OR EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid))
"""
_RULES = "SELECT rulename FROM pg_rewrite WHERE ev_class = to_regclass(%s) AND rulename <> '_RETURN' ORDER BY 1"
_INHERITANCE = """
SELECT inhrelid::regclass::text FROM pg_inherits WHERE to_regclass(%s) IN (inhrelid, inhparent) ORDER BY 1
"""
_SHARED_SEQUENCES = """
SELECT owned.objid::regclass::text, adrelid::regclass::text FROM pg_depend AS owned
JOIN pg_class ON pg_class.oid = owned.objid AND relkind = 'S'
JOIN pg_depend AS used ON used.refclassid = 'pg_class'::regclass AND used.refobjid = owned.objid
JOIN pg_attrdef ON used.classid = 'pg_attrdef'::regclass AND pg_attrdef.oid = used.objid
WHERE owned.classid = 'pg_class'::regclass AND owned.refobjid = to_regclass(%s) AND owned.deptype IN ('a', 'i')
AND adrelid <> owned.refobjid ORDER BY 1
"""
_FUNCTIONS = """
SELECT DISTINCT objid::regprocedure::text FROM pg_depend WHERE classid = 'pg_proc'::regclass AND refobjid IN (
SELECT unnest(ARRAY[oid, reltype]) FROM pg_class WHERE oid = to_regclass(%s)) ORDER BY 1
"""
_SENTENCES = (
    (_FOREIGN_KEYS, "The foreign key {0} of {1} would go on pointing to the old table; drop it."),
    (_PUBLICATIONS, "Subscribers of the publication {0} would keep the old rows; take the table out of it before."),
    (_TRIGGERS, "The trigger {0} would stay on the old table; drop it, and create it on the new one."),
    (_ROW_SECURITY, "Row-level security of {0} would not hold for the new table; this strategy cannot carry it over."),
    (_RULES, "The rule {0} would stay on the old table; drop it."),
    (_INHERITANCE, "It belongs to an inheritance or a partitioning with {0}; detach it."),
    (_SHARED_SEQUENCES, "Its sequence {0} is also used by {1}, and would go with the old table; give that its own."),
    (_FUNCTIONS, "The function {0} refers to the old table or its row type; drop it, and create it afterwards."),
)


def dependent_views(swap: Swap, table: str) -> list[str]:
    """Return the views and materialised views that read a table or view, each with its kind."""
    kinds = {"v": "view", "m": "materialised view"}
    return [f"{kinds.get(kind, 'relation')} {name}" for kind, name in swap.rows(_VIEWS, swap.quote(table))]


def triggers(swap: Swap, table: str) -> list[str]:
    """Return the names of the triggers of a table or view."""
    return [name for (name,) in swap.rows(_TRIGGERS, swap.quote(table))]


def left_behind(swap: Swap, table: str) -> Iterator[str]:
    """Yield what would not follow if the table's name went to another one."""
    for view in dependent_views(swap, table):
        yield f'The {view} would go on reading the old table; drop it, or take strategy="view".'
    for query, sentence in _SENTENCES:
        for found in swap.rows(query, swap.quote(table)):
            yield sentence.format(*found)
