// Keeps a page as the server would render it now: fetches it again every few seconds and takes over what differs.
// What plays keeps playing and what is typed stays: nodes that are the same are not touched. A hidden tab rests, a
// page whose job has ended stops.
"use strict";

const EVERY_MS = 3000;
const AT_MOST_MS = 30000;
let waitMs = EVERY_MS;
let timer;

function live() {
  return "live" in document.body.dataset;
}

function later() {
  clearTimeout(timer);
  if (live() && !document.hidden) timer = setTimeout(look, waitMs);
}

async function look() {
  try {
    const answer = await fetch(location.href, { redirect: "error", cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    take(document.getElementById("main"), fresh.getElementById("main"));
    document.title = fresh.title;
    if (!("live" in fresh.body.dataset)) delete document.body.dataset.live;
    waitMs = EVERY_MS;
  } catch {
    waitMs = Math.min(waitMs * 2, AT_MOST_MS);
  }
  later();
}

function take(old, fresh) {
  if (old.isEqualNode(fresh) || isDecidedUpon(old)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  takeAttributes(old, fresh);
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const same = matching(place, wanted);
    if (same === null) {
      old.insertBefore(document.importNode(wanted, true), place);
      continue;
    }
    while (place !== same) place = dropped(place);
    take(place, wanted);
    place = place.nextSibling;
  }
  while (place) place = dropped(place);
}

function takeAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

// What an open form says that its page showed: whoever opened it decides upon that, also when the page has moved on.
function isDecidedUpon(node) {
  return node.nodeName === "INPUT" && node.matches("details[open] [name=seen]");
}

// The node from `place` on that `wanted` is a newer version of. A node with an id is itself wherever it stands.
function matching(place, wanted) {
  if (wanted.id) {
    for (let node = place; node; node = node.nextSibling) if (node.id === wanted.id) return node;
    return null;
  }
  return place && !place.id && place.nodeName === wanted.nodeName ? place : null;
}

function dropped(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : live() && look()));
later();
