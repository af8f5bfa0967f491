"""What the machine chooses from: few operations, so that they meet, and all kinds of steps and outcomes."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

from hypothesis import strategies as st

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.steps import Step, Steps
from django_idempotency.testing import DAY, make_operation

OPERATIONS = {
    f"{scope} {key} {content}": make_operation(content, key=key, scope=f"user:{scope}")
    for scope, key, content in product("ab", "kl", "xy")
}
STEPS = {
    "none": Steps(),
    "begun": Steps([Step(name="transfer")]),
    "keyed": Steps([Step(name="transfer", version="1", is_keyed=True)]),
    "done": Steps([Step(name="reserve").done(1), Step(name="transfer").done({"reference": "é"})]),
}
PAST = timedelta(seconds=-1)

# Most of what may go wrong is about one key.
names = st.sampled_from(["a k x"] * 16 + ["a k y"] * 2 + sorted(OPERATIONS))
steps_names = st.sampled_from(sorted(STEPS))
endings = st.sampled_from(["commit"] * 4 + ["rollback", "crash"])
retentions = st.sampled_from([DAY, DAY, DAY, PAST])
outcomes = st.builds(
    Outcome,
    status=st.sampled_from([200, 201, 204, 422]),
    headers=st.sampled_from([(), (("Location", "/é/"), ("Link", "<1>"), ("Link", "<2>"))]),
    body=st.none() | st.binary(max_size=9),
)
