"""A headless chromium that is asked, through its pipe, what a page shows."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync remote-debugging-pipe window-size=1400,1000"
)
TEXT = """
(function text(node) {
  let found = '';
  for (const child of [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes])
    found += child.nodeType === 3 ? child.textContent + '\\n'
      : ['STYLE', 'SCRIPT'].includes(child.tagName) ? '' : text(child);
  return found;
})(document.body)
"""


class Page:
    """One open page."""

    def __init__(self, ask: int, answer: int) -> None:
        self._ask, self._answer = ask, answer
        self._number, self._rest, self._session = 0, b"", ""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._ask, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 60
        while True:
            while b"\0" not in self._rest:
                ready, _, _ = select.select([self._answer], [], [], end - time.monotonic())
                assert ready, f"no answer to {method}"
                self._rest += os.read(self._answer, 65536)
            line, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == self._number:
                assert "result" in answer, answer
                return dict(answer["result"])

    def open(self, address: str) -> None:
        """Go there; returns before all of it has come."""
        target = self.call("Target.createTarget", url=address)["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    def lines(self) -> list[str]:
        """All text of the page, that of web components included."""
        return [line.strip() for line in str(self.run(TEXT)).splitlines() if line.strip()]


@contextmanager
def page(address: str, folder: Path) -> Iterator[Page]:
    """A page in a browser of its own, whose profile is in a folder."""
    (told, ask), (answer, say) = os.pipe(), os.pipe()
    command = [str(CHROMIUM), *(f"--{flag}" for flag in FLAGS.split())]

    def connect() -> None:  # it reads descriptor 3 and writes descriptor 4
        spare = os.dup(say), os.dup(told)
        os.dup2(spare[1], 3)
        os.dup2(spare[0], 4)

    browser = subprocess.Popen(
        [*command, f"--user-data-dir={folder}", "about:blank"],
        preexec_fn=connect,
        close_fds=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(told)
    os.close(say)
    try:
        one = Page(ask, answer)
        one.open(address)
        yield one
    finally:
        browser.kill()
        browser.wait()
        os.close(ask)
        os.close(answer)
