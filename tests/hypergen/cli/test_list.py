"""`hypergen list`."""

import re

from hypergen.cli.list import ListOptions, chosen
from hypergen.cli.options import field_docs
from hypergen.registry import REGISTRIES


def test_the_help_names_every_kind_as_it_may_be_typed():
    text = field_docs(ListOptions)["kind"]
    names = re.split(r",\s+|\s+or\s+", text.partition(": ")[2])
    assert [registry for name in names for registry in chosen(name)] == list(REGISTRIES.values())
