// Places the element when the sidecar put the script into the page.
// The script's tag names the page's community and where the count goes. A page that has an element for that
// community keeps that one.

function place({ attributes, dataset }) {
  const elements = [...document.querySelectorAll("live-visitors")];
  if (elements.some((element) => keyOf(element.community) === keyOf(dataset.community))) return;
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

/** Turbo Drive puts one page in the place of another: this one's tag goes with it, so that the next one's, which may be
 * the same, is run; and what was placed too early is placed again. */
function follow(script) {
  const again = () => place(script);
  document.addEventListener("turbo:render", again);
  document.addEventListener("turbo:visit", () => {
    document.removeEventListener("turbo:render", again);
    script.remove();
  }, { once: true });
}

function start(script) {
  // Without styles it would be unstyled text in the page.
  if (!sheet) return;
  // The page may have the script several times.
  if (!customElements.get("live-visitors")) {
    watchViews();
    customElements.define("live-visitors", LiveVisitors);
  }
  if (!script?.dataset.community) return;
  follow(script);
  if (document.readyState !== "loading") place(script);
  else document.addEventListener("DOMContentLoaded", () => place(script), { once: true });
}

start(document.currentScript);
