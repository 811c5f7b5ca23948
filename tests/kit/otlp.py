"""Spans made by hand, and their export to the sandbox."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from shared.platform.telemetry import BOOKED, GRANTED, REPORTED

CLIENT = OtlpSpan.SPAN_KIND_CLIENT
INTERNAL = OtlpSpan.SPAN_KIND_INTERNAL


@dataclass(frozen=True)
class Made:
    """One span. Its number is its id and, without `start_ns`, its time in microseconds."""

    trace: str
    span: int
    name: str = "work"
    parent: int | None = None
    service: str = "payments"
    kind: OtlpSpan.SpanKind.ValueType = INTERNAL
    attributes: Mapping[str, str] = field(default_factory=dict)
    failed: bool = False
    link: tuple[str, int] | None = None
    start_ns: int | None = None


def export(*made: Made) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for one in made:
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = one.service
        _add(resource.scope_spans.add().spans.add(), one)
    return request


def _add(span: OtlpSpan, made: Made) -> None:
    span.trace_id, span.span_id = bytes.fromhex(made.trace), _span_id(made.span)
    span.name, span.kind = made.name, made.kind
    if made.parent is not None:
        span.parent_span_id = _span_id(made.parent)
    span.start_time_unix_nano = made.start_ns or made.span * 1000
    span.end_time_unix_nano = span.start_time_unix_nano + 500
    for key, value in made.attributes.items():
        span.attributes.add(key=key).value.string_value = value
    if made.failed:
        span.status.code = Status.STATUS_CODE_ERROR
    if made.link is not None:
        trace, linked = made.link
        span.links.add(trace_id=bytes.fromhex(trace), span_id=_span_id(linked))


def _span_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


async def send(url: str, *made: Made, zipped: bool = False) -> None:
    """Export these spans to the sandbox at this address."""
    body = export(*made).SerializeToString()
    headers = {"Content-Type": "application/x-protobuf"}
    if zipped:
        body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
    async with (
        aiohttp.ClientSession(url) as http,
        http.post("/v1/traces", data=body, headers=headers) as answer,
    ):
        assert answer.status == 200


def bought(trace: str) -> list[Made]:
    """The steps of a purchase that went well, as the services trace them."""
    noted = {
        "report payment": {REPORTED: "payment"},
        "payments_confirms_reported": {BOOKED: "bought"},
        "vpn_grants_confirmed": {GRANTED: "period"},
        "deliver": {"message": "access_ready", "outcome": "sent"},
    }
    return [
        Made(trace, at, name, attributes=attributes)
        for at, (name, attributes) in enumerate(noted.items(), start=1)
    ]
