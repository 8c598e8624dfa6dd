"""What each route of the two APIs does to a project's indexes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.pinecone_spec.engine import Index, Record, Refused, check_metadata, matches, page
from tests.pinecone_spec.knobs import Knobs

__all__ = ["Answer", "Project"]

_DEFAULT = "__default__"


@dataclass
class Answer:
    """Status, JSON body (None for an empty one) and headers."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Project:
    """Everything that one API key sees."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.knobs = Knobs()
        self.indexes: dict[str, Index] = {}
        self.lock = threading.RLock()

    # Control plane ----------------------------------------------------------------------------------------------------

    def control(self, method: str, path: str, body: Mapping[str, Any]) -> Answer:
        """Create, list, describe and delete indexes."""
        if method == "POST":
            return self._create(body)
        name = unquote(path.removeprefix("/indexes").removeprefix("/"))
        if not name:
            return Answer({"indexes": [self._model(index) for index in self.indexes.values()]})
        index = self.indexes.get(name)
        if index is None:
            raise Refused(404, f"Index {name} not found")
        index.looks += 1
        if index.going and index.looks > self.knobs.until_gone:
            del self.indexes[name]
            raise Refused(404, f"Index {name} not found")
        if method == "GET":
            return Answer(self._model(index))
        if method != "DELETE":
            raise Refused(404, f"{method} {path} is not emulated")
        index.going, index.looks = True, 0
        if self.knobs.until_gone == 0:
            del self.indexes[name]
        return Answer(None, 202)

    def _create(self, body: Mapping[str, Any]) -> Answer:
        name = body["name"]
        if name in self.indexes:
            raise Refused(409, "Resource already exists.")
        if not all(c.islower() or c.isdigit() or c == "-" for c in name) or not name.isascii():
            raise Refused(400, "Name must consist of lower case alphanumeric characters or '-'")
        tags = body.get("tags", {})
        if len(tags) > 20 or any(len(k) > 80 or len(v) > 120 for k, v in tags.items()):
            raise Refused(400, "an index has at most 20 tags, with keys of up to 80 and values of up to 120 characters")
        if not all(c.isascii() and (c.isalnum() or c in ";@_-.+ ") for value in tags.values() for c in value):
            raise Refused(400, "a tag's value holds a character that is not allowed")
        (vector,) = body["schema"]["fields"].values()
        if vector["metric"] not in {"cosine", "dotproduct", "euclidean"} or not 1 <= vector["dimension"] <= 20_000:
            raise Refused(400, "no such metric or dimension")
        deployment = body.get("deployment") or {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}
        if deployment.get("cloud") not in {"aws", "gcp", "azure"}:
            raise Refused(
                404, f"Resource cloud: {deployment.get('cloud')} region: {deployment.get('region')} not found"
            )
        described = {"schema": body["schema"], "deployment": deployment, "tags": tags}
        self.indexes[name] = Index(name, vector["dimension"], vector["metric"], described, self.knobs)
        return Answer(self._model(self.indexes[name]), 201)

    def _model(self, index: Index) -> dict[str, Any]:
        ready = not index.going and index.looks >= self.knobs.until_ready
        state = "Terminating" if index.going else "Ready" if ready else "Initializing"
        return {
            "name": index.name,
            "host": f"{self.url}/i/{index.name}",
            "status": {"ready": ready, "state": state},
            "deletion_protection": "disabled",
            "read_capacity": {"mode": "OnDemand", "status": {"state": "Ready"}},
            **index.described,
        }

    # Data plane -------------------------------------------------------------------------------------------------------

    def data(self, index: str, path: str, body: Mapping[str, Any]) -> Answer:
        """Write and read records of one index."""
        found = self.indexes.get(index)
        if found is None or found.going:
            raise Refused(404, f"Index {index} not found")
        parts = urlsplit(path)
        query = parse_qs(parts.query, keep_blank_values=True)
        name = body.get("namespace") or query.get("namespace", [""])[0] or _DEFAULT
        verb = _VERBS.get(parts.path)
        if verb is None:
            raise Refused(404, f"{parts.path} is not emulated")
        answer = verb(self, found, name, body, query)
        if not self.knobs.log_numbers:
            answer.headers.clear()
        return answer

    def _upsert(self, index: Index, name: str, body: Mapping[str, Any], _query: Any) -> Answer:
        made = [index.record(v) for v in body["vectors"]]
        if self.knobs.accept is not None:
            made = made[: self.knobs.accept]
        changes: dict[str, Record | None] = dict(made)
        number = index.namespace(name, create=True).write(changes)  # type: ignore[union-attr]  # it was created
        return Answer({"upsertedCount": len(made)}, headers=_written(number))

    def _delete(self, index: Index, name: str, body: Mapping[str, Any], _query: Any) -> Answer:
        space = index.namespace(name)
        if space is None:
            raise Refused(404, "Namespace not found")
        if body.get("deleteAll"):
            gone = list(space.now)
        elif body.get("ids"):
            gone = body["ids"]
        else:
            gone = [i for i, r in space.now.items() if matches(body.get("filter", {}), r.metadata)]
        return Answer({}, headers=_written(space.write(dict.fromkeys(gone))))

    def _update(self, index: Index, name: str, body: Mapping[str, Any], _query: Any) -> Answer:
        space = index.namespace(name)
        if space is None:
            raise Refused(404, "Namespace not found")
        extra = body.get("setMetadata") or {}
        check_metadata(extra)
        if "filter" in body:
            view = space.read("search") if body.get("dryRun") else None
            chosen = {
                i: r for i, r in (view.records if view else space.now).items() if matches(body["filter"], r.metadata)
            }
            if view is not None:
                return Answer({"matchedRecords": len(chosen)})
        else:
            chosen = {body["id"]: space.now[body["id"]]} if body["id"] in space.now else {}
        values = index.vector(body["values"]) if "values" in body else None
        changes: dict[str, Record | None] = {
            i: Record(r.values if values is None else values, {**r.metadata, **extra}) for i, r in chosen.items()
        }
        answer = {"matchedRecords": len(chosen)} if "filter" in body else {}
        return Answer(answer, headers=_written(space.write(changes)))

    def _search(self, index: Index, name: str, body: Mapping[str, Any], _query: Any) -> Answer:
        space = index.namespace(name)
        if space is None:
            index.vector(body["vector"])
            return Answer({"matches": [], "namespace": name, "usage": {"readUnits": 1}})
        view = space.read("search")
        found = []
        for id_, score in index.query(view, body["vector"], body["topK"], body.get("filter") or {}):
            match: dict[str, Any] = {"id": id_, "score": score, "values": []}
            if body.get("includeValues"):
                match["values"] = view.records[id_].values.tolist()
            if body.get("includeMetadata"):
                match["metadata"] = view.records[id_].metadata
            found.append(match)
        answer = {"matches": found, "namespace": name, "usage": {"readUnits": 1}}
        return Answer(answer, headers={"x-pinecone-max-indexed-lsn": str(view.number)})

    def _fetch(self, index: Index, name: str, _body: Any, query: Mapping[str, list[str]]) -> Answer:
        ids = query.get("ids", [])
        if len(ids) > 1_000:
            raise Refused(400, "at most 1,000 ids can be fetched at once")
        space = index.namespace(name)
        held = space.now if space else {}
        return Answer({"vectors": _vectors(held, [i for i in ids if i in held]), "namespace": name})

    def _fetch_by_metadata(self, index: Index, name: str, body: Mapping[str, Any], _query: Any) -> Answer:
        space = index.namespace(name)
        held = space.read("search").records if space else {}
        chosen = [i for i, r in held.items() if matches(body.get("filter") or {}, r.metadata)]
        ids, token = page(chosen, body.get("paginationToken", ""), min(body.get("limit", 100), 10_000))
        return Answer({"vectors": _vectors(held, ids), "namespace": name, **self._next(token)})

    def _list(self, index: Index, name: str, _body: Any, query: Mapping[str, list[str]]) -> Answer:
        space = index.namespace(name)
        held = space.now if space else {}
        ids, token = page(held, query.get("paginationToken", [""])[0], int(query.get("limit", ["100"])[0]))
        return Answer({"vectors": [{"id": i} for i in ids], "namespace": name, **self._next(token)})

    def _next(self, token: str | None) -> dict[str, Any]:
        if self.knobs.stuck:
            token = "0"  # noqa: S105  a page's name, no secret
        return {} if token is None else {"pagination": {"next": token}}

    def _stats(self, index: Index, _name: str, body: Mapping[str, Any], _query: Any) -> Answer:
        if body.get("filter"):
            raise Refused(400, "Serverless indexes do not support describing index stats with metadata filtering")
        counts = {name: len(space.read("stats").records) for name, space in index.namespaces.items()}
        return Answer(
            {
                "namespaces": {name: {"vectorCount": n} for name, n in counts.items()},
                "dimension": index.dimension,
                "indexFullness": 0,
                "totalVectorCount": sum(counts.values()),
                "metric": index.metric,
                "vectorType": "dense",
            }
        )


def _written(number: int) -> dict[str, str]:
    return {"x-pinecone-request-lsn": str(number)}


def _vectors(held: Mapping[str, Record], ids: list[str]) -> dict[str, Any]:
    return {i: {"id": i, "values": held[i].values.tolist(), "metadata": held[i].metadata} for i in ids}


_VERBS = {
    "/vectors/upsert": Project._upsert,
    "/vectors/delete": Project._delete,
    "/vectors/update": Project._update,
    "/vectors/fetch": Project._fetch,
    "/vectors/fetch_by_metadata": Project._fetch_by_metadata,
    "/vectors/list": Project._list,
    "/query": Project._search,
    "/describe_index_stats": Project._stats,
}
