"use strict";
// Keeps a page up to date: learns by server-sent events (data-events) or every so many seconds (data-every) that
// something may have changed, asks for the page again, and replaces those parts marked data-live that the server
// renders differently now. So there is one template for each part, and without scripts the page still works.

const main = document.querySelector("main[data-every]");
const said = document.getElementById("said");
let source = null;
let timer = null;
let isBusy = false;
let isStale = false;

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function replacePart(part, other) {
  if (!other) return;
  // Whoever has the focus in a part keeps it: the part waits for the next time.
  if (part.innerHTML === other.innerHTML || part.contains(document.activeElement)) return;
  part.replaceWith(document.adoptNode(other));
}

function say(fresh) {
  const now = fresh.querySelector("[data-say]");
  const before = document.querySelector("[data-say]");
  // Only what the whole has come to: each step of a count would keep a screen reader talking.
  if (now && before && now.dataset.say !== before.dataset.say) said.textContent = now.dataset.say;
}

async function refresh() {
  isStale = true;
  if (isBusy) return;
  isBusy = true;
  while (isStale) {
    isStale = false;
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" } });
      // The session has ended: whoever looks is asked for a key, and comes back here.
      if (response.redirected) return location.reload();
      if (response.ok) {
        const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
        say(fresh);
        for (const part of document.querySelectorAll("[data-live]")) {
          replacePart(part, fresh.querySelector(`[data-live="${part.dataset.live}"]`));
        }
        if (!fresh.querySelector("main[data-every]")) end();
      }
    } catch {
      // The server is away for a moment; the next turn asks again.
    }
    // Counts may change each second, and a page is more than a count.
    if (isStale) await wait(1500);
  }
  isBusy = false;
}

function end() {
  stop();
  main.removeAttribute("data-every");
  main.removeAttribute("data-events");
}

function stop() {
  if (source) source.close();
  source = null;
  clearInterval(timer);
  timer = null;
}

function poll() {
  if (!timer) timer = setInterval(refresh, Number(main.dataset.every) * 1000);
}

function listen() {
  source = new EventSource(main.dataset.events);
  source.addEventListener("progress", refresh);
  source.addEventListener("end", () => {
    source.close();
    refresh();
  });
  source.addEventListener("error", () => {
    // The browser connects again by itself, unless it was refused.
    if (source && source.readyState === EventSource.CLOSED && main.dataset.every) {
      source = null;
      poll();
    }
  });
}

function start() {
  if (!main.dataset.every || source || timer) return;
  if (main.dataset.events && window.EventSource) listen();
  else poll();
}

if (main) {
  start();
  // A browser has few connections to one server: pages that nobody sees hold none.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      stop();
    } else if (main.dataset.every) {
      refresh();
      start();
    }
  });
}
