"""Two training procedures compared over patients and runs: effects, verdicts, planning."""
