"""Owner and grants of tables and views (PostgreSQL)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from django_idempotency.reprocessing.swap.base import Swap

_GRANTS = """
SELECT acl.privilege_type, '', coalesce(quote_ident(pg_roles.rolname), 'PUBLIC'), acl.is_grantable
FROM pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner))) AS acl
LEFT JOIN pg_roles ON pg_roles.oid = acl.grantee WHERE pg_class.oid = to_regclass(%s)
UNION
SELECT acl.privilege_type, quote_ident(attname), coalesce(quote_ident(pg_roles.rolname), 'PUBLIC'), acl.is_grantable
FROM pg_attribute, aclexplode(attacl) AS acl
LEFT JOIN pg_roles ON pg_roles.oid = acl.grantee WHERE attrelid = to_regclass(%s) AND NOT attisdropped
"""
_OWNER = "SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class WHERE oid = to_regclass(%s)"


class Grant(NamedTuple):
    """A privilege on a table, or on one column of it."""

    privilege: str
    column: str
    grantee: str
    is_grantable: bool

    @property
    def what(self) -> str:
        """The privilege as SQL has it."""
        return f"{self.privilege} ({self.column})" if self.column else self.privilege


def grants(swap: Swap, table: str) -> set[Grant]:
    """Return who may do what with a table or view."""
    quoted = swap.quote(table)
    return {Grant(*row) for row in swap.rows(_GRANTS, quoted, quoted)}


def owner(swap: Swap, table: str) -> str:
    """Return the owner of a table or view."""
    return str(swap.rows(_OWNER, swap.quote(table))[0][0])


def copy(swap: Swap) -> None:
    """Let the new table have the owner and the grants of the old one."""
    give(swap, swap.new_table, owner_is=owner(swap, swap.old_table), wanted=grants(swap, swap.old_table))


def give(swap: Swap, table: str, *, owner_is: str, wanted: set[Grant]) -> None:
    """Let a table or view have this owner and these grants, and no others."""
    if owner(swap, table) != owner_is:
        swap.execute(f"ALTER TABLE {swap.quote(table)} OWNER TO {owner_is}")
    swap.execute(*_statements(swap, table, wanted))


def _statements(swap: Swap, table: str, wanted: set[Grant]) -> Iterator[str]:
    quoted = swap.quote(table)
    known = {swap.quote(column).strip('"') for column in swap.columns}
    wanted = {grant for grant in wanted if not grant.column or grant.column.strip('"') in known}
    has = grants(swap, table)
    for grant in sorted(has - wanted):
        yield f"REVOKE {grant.what} ON {quoted} FROM {grant.grantee}"
    for grant in sorted(wanted - has):
        option = " WITH GRANT OPTION" if grant.is_grantable else ""
        yield f"GRANT {grant.what} ON {quoted} TO {grant.grantee}{option}"
