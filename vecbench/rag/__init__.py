"""Retrieval-augmented generation over any of the stores: load, split, embed, store, retrieve, rerank, prompt, answer.

    rag = Rag(connect("qdrant", path="kb"), collection="handbook")
    rag.add("docs/")                                    # again later: only what changed
    print(rag.ask("How long is the notice period?"))

Every part is a protocol of `vecbench.rag.types` and can be used alone, or replaced.
"""
