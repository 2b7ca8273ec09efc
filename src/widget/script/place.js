// Places the element when the sidecar put the script into the page.
// The script's tag names the page's community and where the count goes. A page that has an element for that
// community keeps that one.

/** What the tag says to this script, and not to the element. */
const OF_THE_TAG = ["data-place", "data-community-slug"];

function place({ attributes, dataset }) {
  const names = [dataset.community, dataset.communitySlug].filter(Boolean).map(keyOf);
  // An element that says that it stands for the page's own community does, by whichever name.
  const isOwn = (element) => names.includes(keyOf(element.community))
    || (element.here && !element.site && Boolean(element.community));
  if ([...document.querySelectorAll("live-visitors")].some(isOwn)) return;
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
    if (name.startsWith("data-") && !OF_THE_TAG.includes(name)) element.setAttribute(name.slice("data-".length), value);
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
