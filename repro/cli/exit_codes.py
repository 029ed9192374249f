"""How a command ends."""

FINE = 0
NEGATIVE = 1  # a contradicted claim, a failed run, something not published
MISTAKE = 2  # the user's: one line on standard error
INTERRUPTED = 130  # Ctrl-C, as shells count it
