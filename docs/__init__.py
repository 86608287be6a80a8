"""The documentation site: `make docs`.

The pages are the Markdown files here. Three things in them are generated:

* pictures, by `docs.pictures`, when the site is built, from the golden traces of `spec/`, from
  `spec/explored.json` and from the runs in `docs/measured/`;
* tables, by `docs.tables`, from the same;
* the reference, by Sphinx, from docstrings.

`docs.measure` takes the runs: `make measured`. No picture and no measured number is made by hand.
"""
