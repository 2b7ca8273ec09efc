// The widget's live connection: one for all communities of a page, and one for each finer thing and for the site.
// It keeps what is wanted, what is known, and when to reconnect.
//
// For a page's own community (`here`) the socket uses that community's address, where an open connection counts as
// presence; all others are subscribed to over the same connection.
//
// While the page is hidden for long, frozen, or in the back/forward cache, there is no connection, so its user
// does not count as present. After a final refusal by the server there is none any more.

const API = "/api";
/** Most visitors that the server lists at once. */
const MAX_LIMIT = 200;
/** Whether the app's keys are text: then each spelling is a key of its own. */
const KEYS_ARE_TEXT = false;
/** By the name of an element's attribute: what stands before its value in the API's paths, as `posts` for `post`. */
const SCOPES = {};
/** Communities on one connection: one fewer than the server allows, to leave room for `NO_COMMUNITY`. */
const MOST = 99;
/** No community can have this id: asking for it makes any working server answer. */
const NO_COMMUNITY = ".";
/** How long a hidden page stays connected. */
const HIDDEN_FOR = 5 * 60_000;
/** Longest time until a connection is open, or a request answered. */
const PATIENCE = 15_000;
/** Silence after which a connection is checked: browsers do not report pings to scripts. */
const SILENCE = 45_000;
/** First and longest wait before reconnecting, unless the server says when; and the longest that it may say. */
const [SOON, LATE, LATEST] = [1_000, 60_000, 3_600_000];
/** A connection that was open for this long resets the wait before reconnecting. */
const GOOD = 30_000;
/** How long a count stays "live" without a connection. */
const FRESH = 20_000;
/** Time between two changes of subscriptions: the server allows 2 messages a second. */
const PACE = 1_100;

/** Close codes after which reconnecting is of no use: not understood, too much. Known counts stay, as stale. */
const MISTAKES = new Set([1002, 1003, 1007, 1009, 4400, 4413]);
const [SESSION_ENDED, UNKNOWN, TOO_OFTEN] = [4401, 4404, 4429];
/** Refusals in a row after which a session that may still appear, as the server says, is no longer awaited. */
const AWAITED = 5;

/**
 * Path below which a proxy in front serves the site: what stands before the API's own path in the script's address.
 * Empty where the script is a module, which has no address here, or somebody else's copy.
 */
const BELOW = (() => {
  const from = document.currentScript?.src;
  const { origin, pathname } = new URL(from || location.href, location.href);
  const own = `${API}/visitors/widget.js`;
  return origin === location.origin && pathname.endsWith(own) ? pathname.slice(0, -own.length) : "";
})();
const address = (path) => new URL(BELOW + API + path, location.origin);
/** Adds jitter; never sooner than asked for. */
const spread = (wait) => wait * (1 + Math.random() / 2);

/** The key of an id: the same for all spellings that the server treats alike (`042` and `42`, a UUID in capitals). */
function keyOf(id) {
  if (KEYS_ARE_TEXT) return id;
  if (/^\d+$/.test(id)) return id.replace(/^0+(?=\d)/, "");
  const hex = id.toLowerCase().replace(/^urn:uuid:|[{}-]/g, "");
  return /^[\da-f]{32}$/.test(hex) ? hex : id;
}

/** Stands for the site, which has no id. */
const SITE = "*";
/** The id of what an element shows: a community's, also of what is finer in it, or the site's. */
const idOf = ({ own, community }) => (own?.isSite ? SITE : community);

/** Communities are identified by their keys here; only messages to the server have ids. */
class Connection {
  /** Paths of the one thing that it is for, `{live, count}`; null for communities. */
  #own;
  #ends = new AbortController();
  #elements = new Set();
  /** By community: `{count, stale}`. */
  #known = new Map();
  #unknown = new Set();
  #socket = null;
  #openSince = null;
  /** Community whose address the socket uses; null for the address of many. */
  #home = null;
  /** Subscribed communities of the socket, with the ids sent to the server. */
  #asked = new Map();
  /** The request under way; a newer request, or an open socket, replaces it. */
  #question = null;
  #failures = 0;
  /** Consecutive refusals of a session that may still appear. */
  #awaited = 0;
  #after = null;
  /** Earliest time to reconnect, as the server said. */
  #earliest = -Infinity;
  #retry = null;
  #watch = null;
  #fading = null;
  #pace = null;
  #paced = -Infinity;
  #hiding = null;
  /** Why there is no connection though elements want one. */
  #pauses = new Set();
  #over = false;

  constructor(own) {
    this.#own = own;
    const { signal } = this.#ends;
    const pause = (why) => () => this.#pause(why);
    const resume = (why) => () => this.#resume(why);
    addEventListener("pagehide", pause("left"), { signal });
    addEventListener("pageshow", resume("left"), { signal });
    document.addEventListener("freeze", pause("frozen"), { signal });
    document.addEventListener("resume", resume("frozen"), { signal });
    document.addEventListener("visibilitychange", () => this.#visibility(), { signal });
    addEventListener("online", () => (this.#socket ? this.#doubt() : this.#retry && this.#open()), { signal });
    if (document.prerendering) {
      this.#pauses.add("prerendering");
      document.addEventListener("prerenderingchange", resume("prerendering"), { once: true, signal });
    }
    this.#visibility();
  }

  /** Whether there is only one element. */
  get isOfOne() {
    return this.#elements.size === 1;
  }

  add(element) {
    this.#elements.add(element);
    element.show(this.#known.get(keyOf(idOf(element))));
    this.#soon();
  }

  remove(element) {
    this.#elements.delete(element);
    this.#soon();
  }

  /** Elements come and go together; their changes are sent once. */
  #soon() {
    this.#pace ??= setTimeout(() => {
      this.#pace = null;
      this.#paced = performance.now();
      this.#settle();
    }, Math.max(0, this.#paced + PACE - performance.now()));
  }

  /** Ids of the communities to subscribe to, by key. */
  #wanted() {
    const ids = [...this.#elements].map(idOf).map((id) => [keyOf(id), id]);
    const wanted = new Map(ids.filter(([key]) => key && !this.#unknown.has(key)));
    return new Map([...wanted].slice(0, MOST));
  }

  /** The page's own community among these; the one that there is where the connection is for something else. */
  #homeOf(wanted) {
    if (this.#own) return [...wanted.keys()][0] ?? null;
    const own = [...this.#elements].find((element) => element.here && wanted.has(keyOf(element.community)));
    return own ? keyOf(own.community) : null;
  }

  #settle() {
    if (this.#own && this.#elements.size === 0) return this.#end();
    if (this.#over || this.#pauses.size > 0) return;
    this.#tidy();
    const wanted = this.#wanted();
    if (wanted.size === 0) return this.#close();
    if (!this.#socket) {
      if (!this.#retry && !this.#question) this.#open();
    } else if (this.#homeOf(wanted) !== this.#home) {
      this.#reopen();
    } else if (this.#socket.readyState === WebSocket.OPEN) {
      this.#ask(wanted);
    }
  }

  /** Forgets communities without an element: their counts would be out of date later. */
  #tidy() {
    const keys = new Set([...this.#elements].map(idOf).map(keyOf));
    for (const found of [this.#known, this.#unknown]) {
      for (const key of [...found.keys()]) if (!keys.has(key)) found.delete(key);
    }
  }

  #ask(wanted) {
    const more = [...wanted].filter(([key]) => !this.#asked.has(key));
    const fewer = [...this.#asked].filter(([key]) => !wanted.has(key));
    if (this.#asked.size + more.length > MOST) return this.#reopen();
    // In this order, or the server sees no subscription and ends the connection.
    if (more.length > 0) this.#send("subscribe", more.map(([, id]) => id));
    if (fewer.length > 0) this.#send("unsubscribe", fewer.map(([, id]) => id));
    for (const [key, id] of more) this.#asked.set(key, id);
    for (const [key] of fewer) this.#asked.delete(key);
  }

  #send(type, communities) {
    this.#socket.send(JSON.stringify({ type, communities }));
  }

  #open() {
    clearTimeout(this.#retry);
    this.#retry = null;
    const wanted = this.#wanted();
    if (this.#over || this.#pauses.size > 0 || this.#socket || wanted.size === 0) return;
    const early = this.#earliest - performance.now();
    if (early > 0) {
      this.#retry = setTimeout(() => this.#open(), early);
      return;
    }
    this.#question = null;
    this.#home = this.#homeOf(wanted);
    this.#asked = this.#home ? new Map([[this.#home, wanted.get(this.#home)]]) : wanted;
    const ids = [...this.#asked.values()].map(encodeURIComponent);
    const url = address(this.#livePath(ids));
    url.protocol = url.protocol.replace("http", "ws");
    this.#after = null;
    let socket;
    try {
      socket = new WebSocket(url);
    } catch {
      return this.#refused();
    }
    this.#socket = socket;
    this.#openSince = null;
    const patience = setTimeout(() => socket.close(), PATIENCE);
    socket.onopen = () => {
      clearTimeout(patience);
      if (socket !== this.#socket) return;
      this.#openSince = performance.now();
      this.#awaited = 0;
      this.#listen();
      this.#settle();
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#listen();
      this.#hear(JSON.parse(data));
    };
    socket.onclose = ({ code }) => {
      clearTimeout(patience);
      if (socket !== this.#socket) return;
      this.#socket = null;
      if (this.#openSince === null) this.#refused();
      else this.#ended(code);
    };
  }

  #livePath(ids) {
    if (!this.#own) return this.#home ? `/communities/${ids}/visitors/live` : `/visitors/live?communities=${ids}`;
    const isHere = [...this.#elements].some((element) => element.here);
    return this.#own.live + (isHere ? "" : "?heartbeat=false");
  }

  /** Nothing shows what it is for any more. */
  #end() {
    this.#close();
    clearTimeout(this.#hiding);
    this.#ends.abort();
    connections.delete(this.#own.live);
  }

  /** A message arrived on the connection. */
  #listen() {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#doubt(), SILENCE);
  }

  /** Checks that the connection still works: one whose other end is gone may look open for hours. */
  #doubt() {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    clearTimeout(this.#watch);
    // A hidden page does not show an old count.
    if (document.hidden) return this.#listen();
    this.#send("subscribe", [NO_COMMUNITY]);
    this.#watch = setTimeout(() => {
      this.#close();
      this.#ended(null);
    }, PATIENCE);
  }

  // On one connection the latest message is the newest.
  #hear({ type, community_id, current_visitors, stale, after_ms }) {
    const id = community_id === undefined ? SITE : String(community_id);
    const key = keyOf(id);
    if (type === "retry") this.#after = after_ms;
    // Others were unsubscribed from meanwhile.
    if (!this.#asked.has(key)) return;
    if (type === "count") {
      clearTimeout(this.#fading);
      this.#asked.set(key, id);
      this.#learn(key, current_visitors, stale);
    } else if (type === "unknown") {
      this.#forget([key]);
    }
  }

  #ended(code) {
    clearTimeout(this.#watch);
    if (code === SESSION_ENDED) return this.#finish(true);
    if (MISTAKES.has(code)) return this.#finish(false);
    if (code === UNKNOWN) {
      this.#forget([...this.#asked.keys()]);
      return this.#soon();
    }
    if (performance.now() - this.#openSince > GOOD) this.#failures = 0;
    this.#age();
    this.#later(code === TOO_OFTEN ? LATE : this.#after);
  }

  /** A failed handshake gives no reason; a plain request does, and a count in its answer is used. */
  async #refused() {
    const question = {};
    this.#question = question;
    const wanted = this.#wanted();
    const ids = [...wanted.values()].map(encodeURIComponent);
    let answer = null;
    let told = null;
    try {
      answer = await fetch(address(this.#own?.count ?? `/visitors/counts?communities=${ids}`), {
        cache: "no-store",
        signal: AbortSignal.timeout(PATIENCE),
      });
      if (answer.ok) told = await answer.json();
      if (told && this.#own) told = { counts: [told], stale: told.stale };
    } catch {
      // No answer came.
    }
    // A newer question was sent, or answered.
    if (question !== this.#question) return;
    this.#question = null;
    const after = 1_000 * answer?.headers.get("Retry-After") || null;
    if (answer?.status === 401 && after && this.#awaited < AWAITED) {
      this.#awaited += 1;
      return this.#later(after);
    }
    if ([400, 401, 403, 404, 405].includes(answer?.status)) return this.#finish(true);
    if (told) {
      const found = new Map(told.counts.map((one) => [keyOf(String(one.community_id ?? SITE)), one.current_visitors]));
      this.#forget([...wanted.keys()].filter((key) => !found.has(key)));
      for (const [key, count] of found) this.#learn(key, count, told.stale);
      this.#fade();
    } else {
      this.#age();
    }
    this.#later(after);
  }

  /** Reconnects: when the server says, else later each time; with jitter. */
  #later(after) {
    const told = Math.min(LATEST, after ?? 0);
    this.#earliest = performance.now() + told;
    const wait = Math.min(LATE, SOON * 2 ** this.#failures);
    this.#failures += 1;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), spread(Math.max(told, wait)));
  }

  #close() {
    for (const timer of [this.#retry, this.#watch, this.#fading]) clearTimeout(timer);
    this.#retry = this.#question = null;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
  }

  /** Reconnects for other communities, some of which were subscribed a moment ago. */
  #reopen() {
    this.#close();
    this.#fade();
    this.#open();
  }

  #pause(why) {
    this.#pauses.add(why);
    this.#close();
    this.#age();
  }

  #resume(why) {
    if (!this.#pauses.delete(why) || this.#pauses.size > 0) return;
    this.#failures = 0;
    this.#settle();
  }

  #visibility() {
    clearTimeout(this.#hiding);
    if (document.hidden) {
      this.#hiding = setTimeout(() => this.#pause("hidden"), HIDDEN_FOR);
    } else {
      this.#doubt();
      this.#resume("hidden");
    }
  }

  #learn(key, count, stale) {
    this.#known.set(key, { count, stale });
    this.#show(key);
  }

  #forget(keys) {
    for (const key of keys) {
      this.#unknown.add(key);
      this.#known.delete(key);
      this.#show(key);
    }
  }

  /** Marks all known counts as stale. */
  #age() {
    for (const [key, { count }] of this.#known) this.#learn(key, count, true);
  }

  /** The same after a while, unless a connection brings newer counts. */
  #fade() {
    clearTimeout(this.#fading);
    this.#fading = setTimeout(() => this.#age(), FRESH);
  }

  #finish(forget) {
    this.#over = true;
    this.#close();
    if (forget) this.#forget([...this.#known.keys()]);
    else this.#age();
  }

  #show(key) {
    for (const element of this.#elements) {
      if (keyOf(idOf(element)) === key) element.show(this.#known.get(key));
    }
  }
}

/** Connections by the path of what they are for; that for communities by none. */
const connections = new Map();

function connectionOf({ own }) {
  const path = own?.live ?? "";
  if (!connections.has(path)) connections.set(path, new Connection(own));
  return connections.get(path);
}
