"""Many runs: planned, priced, claimed and run."""
