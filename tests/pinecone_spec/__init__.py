"""A loopback server that speaks Pinecone's published API: for *spec conformance*, it is not the engine.

Pinecone runs in its vendor's cloud only, and its emulator is no longer made. So the real SDK talks to this server,
which holds every request, and every answer of its own, against the vendor's OpenAPI descriptions, and answers exactly
from NumPy. What passes here is the adapter's side of the published interface; recall, speed and freshness of the
service are not tested by it, and nothing it measures may be published.
"""

from tests.pinecone_spec.knobs import Fault, Knobs, Lag
from tests.pinecone_spec.server import SpecServer

__all__ = ["Fault", "Knobs", "Lag", "SpecServer"]
