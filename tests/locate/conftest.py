import pytest

from tests.locate.heads import head_of, read_template


@pytest.fixture(scope="session")
def template():
    return read_template()


@pytest.fixture(scope="session")
def head(template):
    return head_of(template)
