"""The commands of `python -m oracle`, each in a module of its own. The work is done elsewhere, in
modules that know neither click nor rich; here are options, tables and exit statuses."""
