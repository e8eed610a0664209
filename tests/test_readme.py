"""The README's examples do what they show."""

import doctest
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.skipif(not README.exists(), reason="an installed package has no README beside it")
def test_the_examples_of_the_readme():
    blocks = re.findall(r"```python\n(>>>.*?)```", README.read_text(), re.DOTALL)
    examples = doctest.DocTestParser().get_doctest("".join(blocks), {}, "README.md", None, 0)
    failures = []
    runner = doctest.DocTestRunner()
    runner.run(examples, out=failures.append)
    assert runner.tries > 10
    assert not failures, "".join(failures)
