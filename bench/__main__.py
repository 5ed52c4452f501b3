"""All benchmarks of docs/measured.md: `make bench`. Parts also run alone, as `python -m bench.pure`."""

from bench import catalogues, classes, ingest, legs, ndcg, observe, population, pure, reads, report, scripts, switches
from bench.cost import __main__ as cost

if __name__ == "__main__":
    pure.main()
    reads.main()
    classes.main()
    ingest.main()
    switches.main()
    scripts.main()
    population.main()
    observe.main()
    report.main()
    legs.main([])
    ndcg.main([])
    catalogues.main([])
    cost.main(["--goals"])
