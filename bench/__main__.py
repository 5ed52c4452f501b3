"""All figures of the README: `make bench`. Each part is a program of its own: `python -m bench.pure`, `.legs`, `.ndcg`."""

from bench import legs, ndcg, pure

if __name__ == "__main__":
    pure.main()
    legs.main([])
    ndcg.main([])
