"""The moving picture of README: the chat, beside it the trace, frame after frame."""

from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.async_api import Page, ViewportSize

VIEWPORT: ViewportSize = {"width": 1000, "height": 660}
FRAME_MS = 1_600
LAST_FRAME_MS = 4_000
MAX_BYTES = 1_500_000
_COLOURS = 255  # One more marks the pixels that do not change from frame to frame.


class Picture:
    def __init__(self) -> None:
        self.frames: list[Image.Image] = []

    async def take(self, page: Page) -> None:
        """Add what the page shows, with every animation at its end."""
        screenshot = await page.screenshot(animations="disabled", caret="hide")
        self.frames.append(Image.open(BytesIO(screenshot)).convert("RGB"))

    def save(self, path: Path) -> None:
        """Write an endless GIF. All frames share one palette, so that only changes are stored.

        The octree keeps the colours of the services, which cover few pixels.
        """
        width, height = self.frames[0].size
        together = Image.new("RGB", (width, height * len(self.frames)))
        for number, frame in enumerate(self.frames):
            together.paste(frame, (0, height * number))
        palette = together.quantize(_COLOURS, Image.Quantize.FASTOCTREE)
        first, *others = (frame.quantize(palette=palette) for frame in self.frames)
        durations_ms = [*[FRAME_MS] * len(others), LAST_FRAME_MS]
        path.parent.mkdir(exist_ok=True)
        first.save(path, save_all=True, append_images=others, duration=durations_ms, loop=0)
