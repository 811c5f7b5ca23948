"""A sink for the spans of a run: they are stored, and read when the run is over."""

from collections.abc import Iterator

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from shared.platform.telemetry import FAILED
from turnpike_local.ports import LOOPBACK, free_port

LARGEST_BYTES = 64 * 1024 * 1024


class SpanSink:
    """Answers `POST /v1/traces` as an OpenTelemetry Collector does."""

    def __init__(self) -> None:
        self.port = free_port()
        self._bodies: list[bytes] = []

    async def __aenter__(self) -> "SpanSink":
        app = web.Application(client_max_size=LARGEST_BYTES)
        app.add_routes([web.post("/v1/traces", self._receive)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def settings(self, sampling: float) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:{self.port}",
            "OTEL_TRACES_SAMPLER_ARG": str(sampling),
        }

    def count(self) -> int:
        """How many spans were received, without those of failures, which ignore the sampling."""
        return sum(not any(one.key == FAILED for one in span.attributes) for span in self._spans())

    def _spans(self) -> Iterator[Span]:
        for body in self._bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    yield from scope.spans

    async def _receive(self, request: web.Request) -> web.Response:
        self._bodies.append(await request.read())
        return web.Response(content_type="application/x-protobuf")
