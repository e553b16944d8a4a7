"""Published numbers, recomputed by xpnet on every backend. The numbers and their sources are xpnet/verify's."""

import pytest

from xpnet.verify import CASES
from xpnet.verify.table import cells

SLOW = ("mazur_ten_thousand", "strict")                   # twice 10,000 steps of the slowest backend


@pytest.mark.float64
@pytest.mark.parametrize("name", CASES)
def test_published_numbers(name, backend, request):
    if (name, backend.name) == SLOW and not request.config.getoption("--full"):
        pytest.skip("takes longer: runs with --full")
    if name == "least_squares":
        pytest.importorskip("sklearn")
    rows = CASES[name](backend)
    assert rows
    for row in rows:
        assert row.verdict in ("reproduced", "erratum reproduced"), cells(row)
