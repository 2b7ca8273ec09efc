// What browsers do to get a page, case by case: each start page does one thing, and goes on to the next when the page
// has been asked for or, where it is shown, when it is. The names are those of `fetch_metadata.toml`.
(async () => {
  const { role, number } = document.currentScript.dataset;
  // Not in a frame.
  if (window.top !== window) return;

  const target = `/communities/${document.currentScript.dataset.community}/posts/${number}/`;
  const ask = async (path) => (await fetch(`/tour/${path}`, { cache: "no-store" })).text();
  const name = await ask(`name/${number}`);
  const next = () => location.replace(`/tour/next/${number}`);
  const until = async (holds) => {
    while (!(await holds())) await new Promise((again) => setTimeout(again, 20));
  };
  const heard = () => until(async () => (await ask(`heard/${number}`)) !== "0");
  const loaded = () => until(() => document.readyState === "complete");

  function add(tag, attributes, parent = document.body) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "text") node.textContent = value;
      else node.setAttribute(key, value);
    }
    parent.append(node);
    return node;
  }
  const link = (attributes = {}, parent = document.body) => add("a", { href: target, text: "there", ...attributes }, parent);
  const head = (tag, attributes) => add(tag, attributes, document.head);
  const form = (submit) => {
    const made = add("form", { action: target });
    add("input", { name: "q", value: "words" }, made);
    submit(made);
  };
  const rules = (what) => head("script", {
    type: "speculationrules",
    text: JSON.stringify({ [what]: [{ source: "list", urls: [target], eagerness: "immediate" }] }),
  });
  const library = (file) => new Promise((resolve, reject) => {
    Object.assign(head("script", { src: `/libraries/${file}` }), { onload: resolve, onerror: reject });
  });
  const mouse = (node, type) => node.dispatchEvent(new MouseEvent(type, { bubbles: type !== "mouseenter" }));
  const request = (headers) => {
    const made = new XMLHttpRequest();
    made.open("GET", target);
    for (const [key, value] of Object.entries(headers)) made.setRequestHeader(key, value);
    made.send();
  };
  const go = () => { location.href = target; };

  /** A worker for these pages, which does `how`. */
  const worker = async (how) => {
    const controls = new Promise((done) => {
      navigator.serviceWorker.addEventListener("controllerchange", done, { once: true });
    });
    await navigator.serviceWorker.register(`${target}worker.js?${how}`, { scope: target });
    const { active } = await navigator.serviceWorker.ready;
    if (!navigator.serviceWorker.controller) await controls;
    // Until then WebKit asks the network.
    await until(() => active.state === "activated");
  };
  const through = (how, action) => async () => { await worker(how); await action(); };
  const turbo = (action) => async () => { await library("turbo.js"); await action(); };
  const htmx = (action, ...files) => async () => { for (const file of files) await library(file); await action(); };
  const hover = () => { const made = link(); mouse(made, "mouseenter"); return made; };
  const boosted = (more = {}) => {
    const made = link({ "hx-boost": "true", ...more });
    window.htmx.process(made);
    return made;
  };
  const button = () => {
    const made = add("button", { "hx-get": target, text: "there" });
    window.htmx.process(made);
    made.click();
  };

  /** The page is asked for and not shown. */
  const asked = {
    iframe: () => add("iframe", { src: target }),
    frame: () => {
      const frames = document.createElement("frameset");
      document.body.replaceWith(frames);
      add("frame", { src: target }, frames);
    },
    object: () => add("object", { data: target, type: "text/html" }),
    embed: () => add("embed", { src: target, type: "text/html" }),
    image: () => add("img", { src: target }),
    preload: () => head("link", { rel: "preload", as: "fetch", href: target, crossorigin: "" }),
    fetch: () => fetch(target),
    "fetch-html": () => fetch(target, { headers: { accept: "text/html" } }),
    xhr: () => request({}),
    jquery: () => request({ "X-Requested-With": "XMLHttpRequest", Accept: "text/html, */*; q=0.01" }),
    prefetch: () => head("link", { rel: "prefetch", href: target }),
    "rules-prefetch": () => rules("prefetch"),
    "rules-prerender": () => rules("prerender"),
    "sw-iframe": through("pass", () => add("iframe", { src: target })),
    "sw-preload-iframe": through("preload", () => add("iframe", { src: target })),
    "sw-fetch": through("pass", () => fetch(target)),
    "sw-prefetch": through("pass", () => head("link", { rel: "prefetch", href: target })),
    "sw-rules-prefetch": through("pass", () => rules("prefetch")),
    "sw-rules-prerender": through("pass", () => rules("prerender")),
    "turbo-hover": turbo(hover),
    "turbo-frame": turbo(() => link({}, add("turbo-frame", { id: "f" })).click()),
    "turbo-frame-src": turbo(() => add("turbo-frame", { id: "f", src: target })),
    "htmx-get": htmx(button, "htmx-2.js"),
    "htmx-preload": htmx(() => {
      document.body.setAttribute("hx-ext", "preload");
      mouse(boosted({ preload: "mousedown" }), "mousedown");
    }, "htmx-2.js", "htmx-2-preload.js"),
    "htmx-4-get": htmx(button, "htmx-4.js"),
  };
  /** It is shown, and goes on to the next itself. */
  const shown = {
    link: () => link().click(),
    form: () => form((made) => made.submit()),
    location: go,
    meta: () => head("meta", { "http-equiv": "refresh", content: `0; url=${target}` }),
    reload: go,
    back: go,
    revalidated: go,
    cached: go,
    "prefetch-shown": async () => {
      const made = head("link", { rel: "prefetch", href: target });
      await new Promise((done) => { made.onload = done; });
      link().click();
    },
    "rules-prefetch-shown": async () => { rules("prefetch"); await heard(); link().click(); },
    "rules-prerender-shown": async () => {
      rules("prerender");
      await until(async () => (await ask(`waits/${number}`)) !== "0");
      link().click();
    },
    "sw-link": through("pass", () => link().click()),
    "sw-reload": through("pass", go),
    "sw-options": through("options", () => link().click()),
    "sw-preload": through("preload", () => link().click()),
    "sw-idle": through("idle", () => link().click()),
    "sw-url": through("url", () => link().click()),
    "turbo-link": turbo(() => link().click()),
    "turbo-form": turbo(() => form((made) => made.requestSubmit())),
    "turbo-stream": turbo(() => link({ "data-turbo-stream": "" }).click()),
    "turbo-again": turbo(() => link().click()),
    "turbo-hover-shown": turbo(async () => { const made = hover(); await heard(); made.click(); }),
    "sw-turbo": through("pass", turbo(() => link().click())),
    "htmx-boost": htmx(() => boosted().click(), "htmx-2.js"),
    "htmx-back": htmx(() => {
      window.htmx.config.historyCacheSize = 0;
      for (const path of [target, `${target}on`]) history.pushState({ htmx: true }, "", path);
      history.back();
    }, "htmx-2.js"),
    "htmx-4-boost": htmx(() => boosted().click(), "htmx-4.js"),
    "htmx-4-preload": htmx(async () => {
      const made = boosted();
      mouse(made, "mousedown");
      await heard();
      made.click();
    }, "htmx-4.js", "htmx-4-preload.js"),
  };
  const leave = () => { location.href = `${target}on`; };
  /** It is shown a second time. */
  const again = {
    reload: () => location.reload(),
    "sw-reload": () => location.reload(),
    back: leave,
    revalidated: leave,
    cached: leave,
    "turbo-again": () => link().click(),
  };
  /** The sidecar does not put the widget into these. */
  const without = (name) => name.startsWith("htmx") || name === "sw-url";

  async function start() {
    await loaded();
    await customElements.whenDefined("live-visitors");
    if (shown[name]) return shown[name]();
    await asked[name]();
    await heard();
    next();
  }

  async function page() {
    // A script has put it somewhere.
    if (asked[name]) return;
    if (document.prerendering) {
      const activated = new Promise((done) => document.addEventListener("prerenderingchange", done, { once: true }));
      await ask(`waits/${number}`);
      await activated;
    }
    // Its script has run, and has reported what it reports.
    if (!without(name)) await until(() => document.querySelector("live-visitors"));
    const times = Number(sessionStorage[number] ?? 0) + 1;
    sessionStorage[number] = times;
    if (times === 1 && again[name]) again[name]();
    else next();
  }

  try {
    if (role === "start") await start();
    else if (role === "page") await page();
    else if (role === "on" && name === "back") history.back();
    else if (role === "on") go();
  } catch (error) {
    await ask(`trouble/${encodeURIComponent(`${name}: ${error}`)}`);
  }
})();
