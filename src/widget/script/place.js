// Where the script was put into the page by the sidecar, its tag says of which community the page is, and where the
// count goes. A page that has an element for it already keeps that one.

function place({ attributes, dataset }) {
  const elements = [...document.querySelectorAll("live-visitors")];
  if (elements.some((element) => element.community === dataset.community)) return;
  const isCorner = dataset.place === "corner";
  let parent = document.body;
  try {
    if (!isCorner) parent = document.querySelector(dataset.place);
  } catch {
    parent = null;
  }
  if (!parent) return;
  const element = document.createElement("live-visitors");
  for (const { name, value } of attributes) {
    if (name.startsWith("data-") && name !== "data-place") element.setAttribute(name.slice("data-".length), value);
  }
  element.here = true;
  if (isCorner) element.setAttribute("place", "corner");
  parent.append(element);
}

function start(script) {
  if (!customElements.get("live-visitors")) customElements.define("live-visitors", LiveVisitors);
  if (!script?.dataset.community) return;
  if (document.readyState !== "loading") place(script);
  else document.addEventListener("DOMContentLoaded", () => place(script), { once: true });
}

start(document.currentScript);
