"""All figures of the README: `make bench`. Each part is a program too: `python -m bench.pure`, `.reads`, `.legs`, `.ndcg`."""

from bench import legs, ndcg, pure, reads

if __name__ == "__main__":
    pure.main()
    reads.main()
    legs.main([])
    ndcg.main([])
