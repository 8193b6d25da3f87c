"""The exit codes of `fieldmart`, besides 0 (well) and 2 (options that make no sense, by the command line itself)."""

FAILED = 1  # an error that a person can mend, told in one line
DEGRADED = 3  # ended well, but what is served is stale, or the prior although there is a champion

ROLLED_BACK = 6  # published, but a live rule is broken: the guard went back to an earlier release, or found none

# Of `fieldmart decide --exit-code`; without that option every decision is a success.
MISSING_EVIDENCE = 3  # HOLD: a rule has no value to judge
HELD = 4  # HOLD: somebody has to look
REFUSED = 5  # NO-GO
