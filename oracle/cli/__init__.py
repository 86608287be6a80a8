"""The commands of `python -m oracle`, each in a module of its own.

Options, tables and exit statuses are here. The work is done in modules that know neither click nor
rich.
"""
