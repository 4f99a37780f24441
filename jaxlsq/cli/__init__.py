"""The command line: ``jaxlsq fit`` for data in files, ``jaxlsq info`` for bug reports.

`formula.parse`, which makes a model of a text, is for Python too.
"""
