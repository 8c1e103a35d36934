"""`hypergen list`."""

import re

from hypergen import catalog
from hypergen.cli.list import ListOptions, chosen
from hypergen.cli.options import field_docs
from hypergen.data import DATASETS
from hypergen.registry import Registry


def test_the_help_names_every_kind_as_it_may_be_typed():
    text = field_docs(ListOptions)["kind"]
    names = re.split(r",\s+|\s+or\s+", text.partition(": ")[2])
    known = {
        each.kind for each in (DATASETS, *vars(catalog).values()) if isinstance(each, Registry)
    }
    assert {registry.kind for name in names for registry in chosen(name)} == known
