"""A client of a notebook's kernel, without the pause of Jupyter's own."""

import math
import time
from queue import Empty

from jupyter_client.asynchronous import AsyncKernelClient

ASK_AGAIN_SECONDS = 1.0
CONNECTED_SECONDS = 0.2  # for a message on the channel of outputs, which shows that it is connected


class Client(AsyncKernelClient):
    """Jupyter's client, which would wait a fifth of a second more for messages that answer no cell."""

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Ask the kernel who it is until it answers on both channels; `RuntimeError` if it dies or takes too long."""
        end = time.monotonic() + (math.inf if timeout is None else timeout)
        while True:
            self.kernel_info()
            try:
                await self.shell_channel.get_msg(timeout=ASK_AGAIN_SECONDS)
                await self.iopub_channel.get_msg(timeout=CONNECTED_SECONDS)
                return
            except Empty:
                if not await self.is_alive():
                    raise RuntimeError("Kernel died before replying to kernel_info") from None
                if time.monotonic() > end:
                    raise RuntimeError(f"Kernel did not respond in {timeout:g} seconds") from None
