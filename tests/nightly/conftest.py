"""What several nightly tests need."""

import pytest
from browser import CHROMIUM, chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("there is no `chromium` on the path (apt-get install chromium)")
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started
