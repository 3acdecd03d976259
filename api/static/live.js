"use strict";
// Keeps a page up to date: asks for a small JSON, and when it changed replaces the page's parts marked data-live by
// those that the server renders now. So there is one template for each part, and without scripts the page still works.

const main = document.querySelector("main[data-poll]");
let seen = null;

async function replaceParts() {
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
    // A part in which someone has the focus stays, so that the keyboard's place is not lost.
    if (other && !part.contains(document.activeElement)) part.replaceWith(document.adoptNode(other));
  }
  if (!fresh.querySelector("main[data-poll]")) main.removeAttribute("data-poll");
}

async function poll() {
  if (!main.dataset.poll) return;
  try {
    if (!document.hidden) {
      const response = await fetch(main.dataset.poll);
      const text = await response.text();
      if (response.ok && seen !== null && text !== seen) await replaceParts();
      if (response.ok) seen = text;
    }
  } catch {
    // The server is away for a moment; the next turn asks again.
  }
  setTimeout(poll, Number(main.dataset.every) * 1000);
}

if (main) poll();
