"""Runs that work out of the box: which script, and which spec starts it?"""
