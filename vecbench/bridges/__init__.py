"""vecbench collections inside other frameworks: LangChain, LlamaIndex, Haystack; each module needs its own extra."""
