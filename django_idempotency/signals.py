"""Facts, each stated once and in the past tense, within the transaction in which it became true.

A listener that raises undoes the fact; what a listener writes to the database ``using`` commits with it or not at all.
All take these keyword arguments beside ``sender``, the class of the store:

using: database alias of that transaction.
digest: what the key is looked up by (32 bytes); the key itself is never told.
operation, scope: as the record has them (text).
attempt: number of the attempt that had been begun last.
actor: who decided so, such as ``user:alice``.
reason: why, in the actor's own words.
"""

from django.dispatch import Signal

#: An operator has freed a key, so that its operation may run anew. Also ``status``: that of the record until then.
operation_released = Signal()

#: An operator has said what came of an operation. Also ``is_done``: whether it was done; else it is resumed.
operation_resolved = Signal()
