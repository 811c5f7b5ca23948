"""Where the spans of a measured run go: taken, counted and forgotten."""

from aiohttp import web

from turnpike_local.ports import LOOPBACK, free_port

LARGEST_BYTES = 64 * 1024 * 1024


class SpanSink:
    """Answers `POST /v1/traces` as an OpenTelemetry Collector does."""

    def __init__(self) -> None:
        self.port = free_port()
        self.received_bytes = 0

    async def __aenter__(self) -> "SpanSink":
        app = web.Application(client_max_size=LARGEST_BYTES)
        app.add_routes([web.post("/v1/traces", self._take)])
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

    async def _take(self, request: web.Request) -> web.Response:
        self.received_bytes += len(await request.read())
        return web.Response(content_type="application/x-protobuf")
