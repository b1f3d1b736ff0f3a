"""The real core, inbox and detectors against a simulated cluster, in virtual time, from one seed."""
