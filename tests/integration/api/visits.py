"""A real browser's visit to the pages, and what it measures there."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Visit:
    """A browser's page and what went wrong on it."""

    page: Any
    origin: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def open(self, address: str) -> None:
        """Go there and wait until nothing loads any more."""
        self.page.goto(self.origin + address, wait_until="load")

    def text(self, selector: str = "body") -> str:
        """The visible text."""
        return str(self.page.inner_text(selector))

    def note_request(self, request: Any) -> None:
        """Remember a request that leaves our server."""
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.foreign.append(request.url)

    def note_message(self, message: Any) -> None:
        """Remember what the console calls an error."""
        if message.type == "error":
            self.errors.append(message.text)

    def measure_contrast(self) -> dict[str, float]:
        """The lowest contrast of text against its ground, by element and class."""
        return dict(self.page.evaluate(_CONTRAST))

    def measure_pictures(self) -> list[int]:
        """The width of each picture's own pixels, when all of them were drawn."""
        return list(self.page.evaluate(_PICTURES))

    def find_unlabelled(self) -> list[str]:
        """What can be filled in or pressed and has no name that a screen reader could say."""
        return list(self.page.evaluate(_UNLABELLED))

    def tab_through(self, most: int = 60) -> list[str]:
        """Press Tab until the focus leaves the page; what had it, as "tag:text or name", and whether it was seen."""
        found = []
        for _ in range(most):
            self.page.keyboard.press("Tab")
            what = self.page.evaluate(_FOCUSED)
            if what is None:
                break
            found.append(what)
        return found


_FOCUSED = """() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const style = getComputedStyle(element);
  const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  const name = element.name || element.innerText || element.getAttribute("aria-label") || element.id;
  return `${element.tagName.toLowerCase()}:${name.trim().split("\\n")[0]}${seen ? "" : " (unseen)"}`;
}"""

_PICTURES = """() => Promise.all([...document.querySelectorAll("main img")].map(async (image) => {
  image.loading = "eager";
  await image.decode();
  return image.naturalWidth;
}))"""

_UNLABELLED = """() => [...document.querySelectorAll(
  "input:not([type=hidden]), select, textarea, button, a, [role=img], img"
)]
  .filter((element) => !element.closest("[aria-hidden=true]"))
  .filter((element) => !(
    (element.labels && element.labels.length) || element.getAttribute("aria-label") || element.innerText?.trim()
    || (element.tagName === "IMG" && element.hasAttribute("alt"))
  ))
  .map((element) => element.outerHTML.slice(0, 120))"""

_CONTRAST = """() => {
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => {
      v = v / 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255,255,255)";
  };
  const out = {};
  const texts = "p, a, td, th, h1, h2, h3, span, strong, li, dt, dd, label, legend, button, input, select, textarea,"
    + "code, svg text";
  for (const element of document.querySelectorAll(texts)) {
    const written = element.innerText ?? element.textContent;
    if (element.disabled || !(written || element.value || "").trim()) continue;
    const style = getComputedStyle(element);
    const a = luminance(element.closest("svg") ? style.fill : style.color), b = luminance(ground(element));
    const key = `${element.tagName}.${element.getAttribute("class") ?? ""}`;
    out[key] = Math.min(out[key] ?? 99, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return out;
}"""
