"""Every case by every peer, one after the other: to watch for a change, not to compare.

    python -m pytest benchmarks/bench_modules.py --benchmark-only

Each case first checks that the peers agree. `report.py` compares, in turn.
"""

import peers
import pytest
from cases import CASES, Problem

from packseq.settings.threads import usable_cores

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def problem(request):
    problem = Problem(request.param)
    outputs = {name: call() for name, call in peers.calls_for(problem, threads=1).items()}
    for name, output in outputs.items():
        assert peers.disagreement(problem, output, outputs["packseq"]) <= 1, name
    return problem


@pytest.fixture(params=sorted({1, usable_cores()}), ids="{} threads".format)
def threads(request):
    with peers.using_threads(request.param):
        yield request.param


@pytest.mark.parametrize("peer", peers.PEERS)
def bench_modules(benchmark, problem, threads, peer):
    call = peers.PEERS[peer](problem, threads)
    if call is None:
        pytest.skip(f"{peer} cannot do {problem.case.name}, or not rightly")
    benchmark.group = f"{problem.case.name}, {threads} threads"
    benchmark.extra_info["GFLOP"] = problem.case.flops / 1e9
    iterations = 1 if problem.case.flops > 1e7 else 100
    benchmark.pedantic(call, rounds=5, iterations=iterations, warmup_rounds=1)
