"""All figures of the README: `make bench`. Parts are programs too: `python -m bench.pure`, `.reads`, `.ingest`, `.legs`."""

from bench import ingest, legs, ndcg, pure, reads

if __name__ == "__main__":
    pure.main()
    reads.main()
    ingest.main()
    legs.main([])
    ndcg.main([])
