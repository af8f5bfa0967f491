"""Facts, each stated once and in the past tense, within the transaction in which it became true.

A listener that raises undoes the fact; what a listener writes to the database ``using`` commits with it or not at all.
The audit, the log, the metrics and the spans are listeners. Every signal has these keyword arguments beside ``sender``:

using: database alias of that transaction, None where there is none.
layer: the room that it happened in: ``http``, ``jobs``, ``streams``, ``writes``, ``objects`` or ``reprocessing``.
operation: what was asked for: method and route, or the name of a job, a topic, a window, a model.
"""

from django.dispatch import Signal

#: An operation has been answered. Also ``outcome`` (``executed``, ``replayed``, ``in_progress``, ``mismatch``,
#: ``rejected``, ``failed``, ``unknown`` or ``expired``), ``scope``, ``digest`` (32 bytes, or none: what the key is
#: looked up by; the key itself is never told), ``fingerprint`` and ``outcome_hash`` (bytes, may be empty),
#: ``attempt``, ``duration`` (seconds, None if it did not run), ``status`` (of the response, None if there is none)
#: ``notes`` (what ``core.notes`` has kept of the execution, for a replay), ``is_recorded`` (whether a record or a count
#: is kept, which is the audit of it), ``is_last`` (whether nothing else is to happen in the transaction) and ``reason``
#: (the type of the problem, may be empty). What a listener raises is logged; the answer stands.
operation_answered = Signal(use_caching=True)

#: Many alike were handled at once. Also ``counts``, how many by outcome (``executed``, ``replayed``; for rows
#: ``inserted``, ``updated``, ``unchanged``, ``stale``), and ``duration`` (seconds).
batch_answered = Signal()

#: An attempt has taken the place of one whose lease had ended. Also ``scope``, ``digest``, and ``attempt``: its own
#: number.
operation_taken_over = Signal()

#: An attempt has found at its end that its lease was gone; its effects are rolled back. Also ``scope``, ``digest``,
#: ``attempt``.
operation_fenced = Signal()

#: An operator has freed a key, so that its operation may run anew. Also ``scope``, ``digest``, ``attempt``,
#: ``actor``: who decided so, such as ``user:alice``; ``reason``: why, in their own words; ``status``: that of the
#: record until then.
operation_released = Signal()

#: An operator has said what came of an operation. Also ``scope``, ``digest``, ``attempt``, ``actor``, ``reason``,
#: and ``is_done``: whether it was done; else it is resumed.
operation_resolved = Signal()

#: Somebody has done by hand what is to be accounted for. Also ``action``, in the past tense (``rewound``,
#: ``promoted``, ``rolled_back``, ``erased``, ``body_revealed``, ``exported`` …), ``actor``, ``reason``, and where it
#: was about one operation ``scope`` and ``digest``.
decision_made = Signal()

#: Records whose time was over were deleted, which had been the audit of what was executed. Also ``executions``:
#: mappings with ``operation``, ``scope``, ``digest``, ``fingerprint``, ``outcome_hash``, ``attempt``, ``status``,
#: ``duration`` and ``at``, when it was completed. There is no ``operation`` beside them.
executions_forgotten = Signal()

#: Rows whose time was over were deleted. Also ``table``: the name that they are purged under; ``count``.
rows_purged = Signal()
