// What the pages do beyond forms and links: follow a payment as it happens, and change providers without leaving the page.
// Everything works without this file; it only saves reloads.

const POLL_MS = 2000;

/** Make `from` like `to`, touching only what differs: focus, open details and running animations stay. */
function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) return from.replaceWith(to);
  if (from.nodeType === Node.TEXT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) return;
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  morphChildren(from, [...to.childNodes]);
}

/** Make the children of `from` like `fresh`. Elements with an id are matched by it, so what comes before them may grow. */
function morphChildren(from, fresh) {
  const named = new Map([...from.children].filter((child) => child.id).map((child) => [child.id, child]));
  const wanted = new Set(fresh.map((node) => node.id).filter(Boolean));
  let next = from.firstChild;
  for (const node of fresh) {
    const twin = node.id && named.get(node.id);
    if (twin) {
      while (next && next !== twin) {
        const gone = next;
        next = next.nextSibling;
        gone.remove();
      }
      if (next === twin) next = twin.nextSibling;
      else from.append(twin);
      morph(twin, node);
    } else if (next && !wanted.has(next.id)) {
      const here = next;
      next = next.nextSibling;
      morph(here, node);
    } else {
      from.insertBefore(node, next);
    }
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

/** Put times into the reader's own zone; the server writes them in UTC. */
function here(place) {
  const form = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "medium" });
  for (const at of place.querySelectorAll("time[data-moment]")) at.textContent = form.format(new Date(at.dateTime));
}

/** Show `html` as the content of `place`. */
function show(place, html) {
  const fresh = place.cloneNode(false);
  fresh.innerHTML = html;
  here(fresh);
  morph(place, fresh);
}

/** Follow the payment until nothing more is awaited: by server-sent events, or by asking when they do not come through. */
function follow(story) {
  const at = `/checkout/${story.dataset.payment}`;
  const lang = `?lang=${document.documentElement.lang}`;
  const announce = document.getElementById("announce");

  const tell = (html) => {
    show(story, html);
    const title = story.querySelector("#story-title").textContent;
    const told = [...story.querySelectorAll("#sentence, #instead-title, #instead-words")].map((one) => one.textContent);
    const said = `${title}${announce.dataset.stop}${told.join(announce.dataset.stop.endsWith(" ") ? " " : "")}`;
    if (announce.textContent !== said) announce.textContent = said;
    document.title = `${title} · Holdfast`;
  };

  const ask = async () => {
    try {
      const answer = await fetch(`${at}/story${lang}`);
      if (answer.ok) tell(await answer.text());
      if (answer.headers.get("X-Settled") === "yes") return;
    } catch {
      // The server is away for a moment. The payment goes on without this page, so just ask again.
    }
    setTimeout(ask, POLL_MS);
  };

  if (!("EventSource" in window)) return void ask();
  const events = new EventSource(`${at}/events${lang}`);
  events.addEventListener("story", (event) => tell(event.data));
  events.addEventListener("settled", (event) => {
    tell(event.data);
    events.close();
  });
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) setTimeout(ask, POLL_MS);
  });
}

/** Post the panel's forms in place. */
function tend(panel) {
  panel.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const body = new URLSearchParams(new FormData(form, event.submitter));
    try {
      const answer = await fetch(`${form.action}?lang=${document.documentElement.lang}`, { method: "POST", body, headers: { "X-Part": "providers" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = document.createElement("template");
      fresh.innerHTML = await answer.text();
      morph(panel, fresh.content.firstElementChild);
    } catch {
      location.reload();
    }
  });
}

for (const form of document.querySelectorAll("form.checkout")) {
  form.addEventListener("submit", () => form.querySelector(".pay").setAttribute("aria-busy", "true"));
}
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
});
here(document);
const panel = document.getElementById("providers");
if (panel) tend(panel);
const story = document.getElementById("story");
if (story && !("settled" in story.dataset)) follow(story);
