"""What does the dashboard's server answer? docs/dashboard.md says it field by field; this package is that server.

A companion of the supervisor: it reads the journal along and the files of the ranks, and acts through the door only, as
the command line does. `application.py` puts it together.
"""
