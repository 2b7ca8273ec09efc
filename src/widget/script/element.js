// The element `<live-visitors>`: shows a count in words, and optionally pictures.
//
//   <live-visitors community="42" here avatars="5"></live-visitors>
//   <live-visitors community="42" post="7" here></live-visitors>
//   <live-visitors site></live-visitors>
//
// It is hidden until a count is known, and again when none may be shown. `state` is "live" or "stale". A `change`
// event gives count and staleness to pages that show them in their own way.

/** Words, by plural category of the language. */
const LABELS = { one: "{count} person here now", other: "{count} people here now" };
/** Shortest time between two announcements to screen readers. */
const QUIET = 30_000;
/** Shortest time between two requests for the visitor list; longer with many visitors, who would all request it. */
const [GLANCE, GLANCE_EACH] = [3_000, 100];
/** At most as many as the server lists at once. */
const MOST_FACES = Math.min(20, MAX_LIMIT);

function make(name, part, ...children) {
  const node = document.createElement(name);
  node.className = part;
  node.setAttribute("part", part);
  node.append(...children);
  return node;
}

/** The URL of a picture; null for any other URL, such as a script. */
function pictureUrl(text) {
  try {
    const url = new URL(text, location.href);
    return ["http:", "https:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

class LiveVisitors extends HTMLElement {
  static observedAttributes = [
    "community", "site", "here", "avatars", "lang", ...Object.keys(SCOPES),
    ...["zero", "one", "two", "few", "many", "other"].map((category) => `label-${category}`),
  ];

  #known = null;
  #joined = false;
  #connection = null;
  #dot = make("span", "dot");
  #before = make("span", "label");
  #count = make("span", "count");
  #behind = make("span", "label");
  #badge = make("span", "badge", this.#dot, make("span", "text", this.#before, this.#count, this.#behind));
  #faces = make("ul", "avatars");
  #announcer = make("span", "announcer");
  #announced = -Infinity;
  #announcing = null;
  #glanced = -Infinity;
  /** The timer of the next visitor list request, until its answer arrived. */
  #glancing = null;
  #faceless = false;
  #visitors = [];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    this.#badge.setAttribute("role", "img");
    this.#faces.setAttribute("role", "list");
    this.#announcer.setAttribute("role", "status");
    this.#announcer.setAttribute("aria-live", "polite");
    root.append(make("span", "base", this.#badge, this.#faces), this.#announcer);
  }

  get community() { return this.getAttribute("community")?.trim() ?? ""; }
  set community(value) { this.setAttribute("community", value); }
  /** Whether the page is the community's own: a user who has it open is present. */
  get here() { return this.hasAttribute("here"); }
  set here(value) { this.toggleAttribute("here", Boolean(value)); }
  /** Whether it shows the whole site's count. */
  get site() { return this.hasAttribute("site"); }
  set site(value) { this.toggleAttribute("site", Boolean(value)); }
  /** Paths of the site, or of what is finer in the community, `{live, count, list}`; null for the community itself. */
  get own() {
    if (this.site) return { isSite: true, live: "/visitors/live", count: "/visitors/count", list: "/visitors/online" };
    const kind = Object.keys(SCOPES).find((name) => this.getAttribute(name)?.trim());
    if (!kind || !this.community) return null;
    const [community, key] = [this.community, this.getAttribute(kind).trim()].map(encodeURIComponent);
    const list = `/communities/${community}/${SCOPES[kind]}/${key}/visitors`;
    return { live: `${list}/live`, count: `${list}/count`, list };
  }
  /** How many, or null. */
  get count() { return this.#known?.count ?? null; }
  get stale() { return this.#known?.stale ?? false; }

  connectedCallback() {
    // The script may load after a page has set these as own properties, which then hide the accessors.
    for (const name of ["community", "here", "site"]) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete this[name];
      this[name] = value;
    }
    this.#joined = true;
    this.#join();
    // If the element was moved, its request was abandoned.
    this.#glance(false);
  }

  disconnectedCallback() {
    this.#joined = false;
    this.#rest();
    this.#connection.remove(this);
    this.#connection = null;
  }

  #join() {
    const next = connectionOf(this);
    if (next !== this.#connection) this.#connection?.remove(this);
    this.#connection = next;
    next.add(this);
  }

  attributeChangedCallback(name, before, now) {
    if (!this.#joined || before === now) return;
    const isOther = name === "community" || name === "site" || Object.hasOwn(SCOPES, name);
    if (isOther) {
      // Nothing of the former community may be shown for this one.
      this.#rest();
      this.#faceless = false;
      this.show(null);
    }
    if (isOther || name === "here") {
      this.#join();
    } else {
      this.#render();
      if (name === "avatars") this.#glance(true);
    }
  }

  #rest() {
    clearTimeout(this.#announcing);
    clearTimeout(this.#glancing);
    this.#announcing = this.#glancing = null;
  }

  /** Shows the count that the connection has for the community; hides the element if it has none. */
  show(known) {
    const [before, now] = [this.#known, known ?? null];
    if (before?.count === now?.count && before?.stale === now?.stale) return;
    this.#known = now;
    this.#render();
    if (before && now && before.count !== now.count) {
      this.#dot.className = this.#dot.className === "dot odd" ? "dot even" : "dot odd";
      this.#announce();
    }
    if (before?.count !== now?.count) this.#glance(!before);
    const detail = { community: this.community, count: this.count, stale: this.stale };
    this.dispatchEvent(new CustomEvent("change", { detail }));
  }

  #render() {
    if (!this.#known) {
      this.removeAttribute("state");
      this.#visitors = [];
      this.#faces.replaceChildren();
      return;
    }
    const language = this.closest("[lang]")?.lang || undefined;
    const [before, behind] = this.#label(language).split("{count}", 2);
    this.#before.textContent = before;
    this.#count.textContent = behind === undefined ? "" : format(this.count, language);
    this.#behind.textContent = behind ?? "";
    this.#badge.setAttribute("aria-label", this.#words);
    this.setAttribute("state", this.stale ? "stale" : "live");
    this.toggleAttribute("nobody", this.count === 0);
    this.#showFaces();
  }

  get #words() {
    return (this.#before.textContent + this.#count.textContent + this.#behind.textContent).trim();
  }

  #label(language) {
    const category = pluralCategory(this.count, language);
    return this.getAttribute(`label-${category}`) ?? this.getAttribute("label-other") ?? LABELS[category] ?? LABELS.other;
  }

  /** Announces the latest count from time to time, and only for the page's own or only element. */
  #announce() {
    if (this.#announcing || !(this.here || this.#connection.isOfOne)) return;
    const wait = Math.max(0, this.#announced + QUIET - performance.now());
    this.#announcing = setTimeout(() => {
      this.#announcing = null;
      this.#announced = performance.now();
      if (this.#known) this.#announcer.textContent = this.#words;
    }, wait);
  }

  get #most() {
    return Math.min(MOST_FACES, Math.trunc(Number(this.getAttribute("avatars"))) || 0);
  }

  /** Requests the visitor list: at once the first time, then not often. */
  #glance(first) {
    if (this.#most < 1 || this.#faceless || !this.#known) return this.#faces.replaceChildren();
    if (this.#glancing) return;
    const since = performance.now() - this.#glanced;
    const wait = first ? 0 : Math.max(1_000, Math.max(GLANCE, GLANCE_EACH * this.count) - since) * (1 + Math.random() / 2);
    this.#glancing = setTimeout(() => this.#look(), wait);
  }

  async #look() {
    this.#glanced = performance.now();
    const glance = this.#glancing;
    try {
      const list = this.own?.list ?? `/communities/${encodeURIComponent(this.community)}/visitors`;
      const answer = await fetch(address(`${list}?limit=${this.#most}`), { signal: AbortSignal.timeout(PATIENCE) });
      const { visitors } = answer.ok ? await answer.json() : { visitors: [] };
      // Meanwhile the element changed its community, or was removed.
      if (glance !== this.#glancing) return;
      // Refused, or no visitor has a profile: only the count is shown.
      this.#faceless = [400, 401, 403, 404].includes(answer.status)
        || (answer.ok && this.count > 0 && visitors.length === 0);
      if (!answer.ok && !this.#faceless) return;
      this.#visitors = visitors;
      this.#showFaces();
    } catch {
      // The next change tries again.
    } finally {
      if (glance === this.#glancing) this.#glancing = null;
    }
  }

  /** Faces of the visitors last heard of, the latest first: never more than the count, which changes sooner. */
  #showFaces() {
    const shown = this.#visitors.slice(0, Math.min(this.#most, this.count));
    const there = new Map([...this.#faces.children].map((face) => [face.dataset.key, face]));
    const faces = shown.map((visitor) => {
      const key = JSON.stringify([visitor.user_id, visitor.username, visitor.avatar]);
      return there.get(key) ?? face(key, visitor);
    });
    const more = this.count - shown.length;
    if (shown.length > 0 && more > 0) faces.push(make("li", "more", `+${format(more)}`));
    this.#faces.replaceChildren(...faces);
  }
}

function face(key, { username, avatar }) {
  const name = String(username);
  const item = make("li", "avatar");
  item.dataset.key = key;
  item.title = name;
  const initial = () => {
    item.setAttribute("aria-label", name);
    item.classList.add(`hue${[...name].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % 6}`);
    item.replaceChildren([...name.trim()][0]?.toUpperCase() ?? "?");
  };
  const src = avatar ? pictureUrl(avatar) : null;
  if (!src) {
    initial();
    return item;
  }
  const image = new Image();
  image.alt = name;
  image.decoding = "async";
  image.referrerPolicy = "no-referrer";
  image.onerror = initial;
  image.src = src;
  item.append(image);
  return item;
}

function format(number, language) {
  try {
    return new Intl.NumberFormat(language).format(number);
  } catch {
    return String(number);
  }
}

function pluralCategory(number, language) {
  try {
    return new Intl.PluralRules(language).select(number);
  } catch {
    return number === 1 ? "one" : "other";
  }
}
