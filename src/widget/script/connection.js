// One connection for all elements of a page: what is wanted, what is known, and when to come back.
//
// A page's own community (`here`) is listened to at that community's address, where an open connection counts as
// being there; all others are asked for over the same connection.
//
// While the page is hidden for long, frozen, or kept by the browser for "back", there is no connection: nobody looks,
// so nobody is there. Where the server's word is final, there is none any more.

const API = "/api";
/** Communities on one connection. */
const MOST = 100;
/** How long a hidden page stays connected. */
const HIDDEN_FOR = 5 * 60_000;
/** Longest time until a connection is open, or a question answered. */
const PATIENCE = 15_000;
/** First and longest wait before coming back, unless the server says when. */
const [SOON, LATE] = [1_000, 60_000];
/** Time between two changes of what is wanted: the server takes 2 messages a second. */
const PACE = 1_100;

/** Ends after which coming back is of no use: not understood, too much. What is known stays, as stale. */
const MISTAKES = new Set([1002, 1003, 1007, 1009, 4400, 4413]);
const [SESSION_ENDED, UNKNOWN, TOO_OFTEN] = [4401, 4404, 4429];

const address = (path) => new URL(API + path, location.origin);
const spread = (wait) => wait * (0.5 + Math.random());

class Connection {
  #elements = new Set();
  /** By community: `{count, stale}`. */
  #known = new Map();
  #unknown = new Set();
  #socket = null;
  /** Community whose address the socket is of; null for the one of many. */
  #home = null;
  #asked = new Set();
  #failures = 0;
  #after = null;
  #retry = null;
  #pace = null;
  #paced = 0;
  #hiding = null;
  /** Why there is no connection though elements want one. */
  #pauses = new Set();
  #over = false;

  constructor() {
    const pause = (why) => () => this.#pause(why);
    const resume = (why) => () => this.#resume(why);
    addEventListener("pagehide", pause("left"));
    addEventListener("pageshow", resume("left"));
    document.addEventListener("freeze", pause("frozen"));
    document.addEventListener("resume", resume("frozen"));
    document.addEventListener("visibilitychange", () => this.#visibility());
    addEventListener("online", () => this.#retry && this.#open());
    if (document.prerendering) {
      this.#pauses.add("prerendering");
      document.addEventListener("prerenderingchange", resume("prerendering"), { once: true });
    }
    this.#visibility();
  }

  /** Whether an element is the only one. */
  get isOfOne() {
    return this.#elements.size === 1;
  }

  add(element) {
    this.#elements.add(element);
    element.show(this.#known.get(element.community));
    this.#soon();
  }

  remove(element) {
    this.#elements.delete(element);
    this.#soon();
  }

  /** Elements come and go together; what they want is told once. */
  #soon() {
    this.#pace ??= setTimeout(() => {
      this.#pace = null;
      this.#paced = Date.now();
      this.#settle();
    }, Math.max(0, this.#paced + PACE - Date.now()));
  }

  #wanted() {
    const communities = [...this.#elements].map((element) => element.community);
    return [...new Set(communities)].filter((one) => one && !this.#unknown.has(one)).slice(0, MOST);
  }

  #settle() {
    if (this.#over || this.#pauses.size > 0) return;
    const wanted = this.#wanted();
    if (wanted.length === 0) return this.#close();
    const own = [...this.#elements].find((element) => element.here && wanted.includes(element.community));
    const home = own?.community ?? null;
    if (!this.#socket) {
      if (!this.#retry) this.#open();
    } else if (home !== this.#home) {
      this.#close();
      this.#open();
    } else if (this.#socket.readyState === WebSocket.OPEN) {
      this.#ask(wanted);
    }
  }

  #ask(wanted) {
    const more = wanted.filter((one) => !this.#asked.has(one));
    const fewer = [...this.#asked].filter((one) => !wanted.includes(one));
    if (this.#asked.size + more.length > MOST) {
      this.#close();
      return this.#open();
    }
    // In this order, or the server sees nothing wanted and ends the connection.
    if (more.length > 0) this.#send("subscribe", more);
    if (fewer.length > 0) this.#send("unsubscribe", fewer);
    this.#asked = new Set(wanted);
  }

  #send(type, communities) {
    this.#socket.send(JSON.stringify({ type, communities }));
  }

  #open() {
    clearTimeout(this.#retry);
    this.#retry = null;
    const wanted = this.#wanted();
    if (this.#over || this.#pauses.size > 0 || this.#socket || wanted.length === 0) return;
    const own = [...this.#elements].find((element) => element.here && wanted.includes(element.community));
    this.#home = own?.community ?? null;
    const url = this.#home
      ? address(`/communities/${encodeURIComponent(this.#home)}/visitors/live`)
      : address(`/visitors/live?communities=${wanted.map(encodeURIComponent)}`);
    url.protocol = url.protocol.replace("http", "ws");
    this.#asked = new Set(this.#home ? [this.#home] : wanted);
    this.#after = null;
    let socket;
    try {
      socket = new WebSocket(url);
    } catch {
      return this.#refused();
    }
    this.#socket = socket;
    let opened = false;
    const patience = setTimeout(() => socket.close(), PATIENCE);
    socket.onopen = () => {
      opened = true;
      clearTimeout(patience);
      if (socket === this.#socket) this.#settle();
    };
    socket.onmessage = ({ data }) => socket === this.#socket && this.#hear(JSON.parse(data));
    socket.onclose = ({ code }) => {
      clearTimeout(patience);
      if (socket !== this.#socket) return;
      this.#socket = null;
      if (opened) this.#ended(code);
      else this.#refused();
    };
  }

  // Of one connection the latest message is the newest.
  #hear({ type, community_id, current_visitors, stale, after_ms }) {
    const community = String(community_id);
    if (type === "count") {
      this.#failures = 0;
      this.#learn(community, current_visitors, stale);
    } else if (type === "unknown") {
      this.#forget([community]);
    } else if (type === "retry") {
      this.#after = after_ms;
    }
  }

  #ended(code) {
    if (code === SESSION_ENDED) return this.#finish(true);
    if (MISTAKES.has(code)) return this.#finish(false);
    if (code === UNKNOWN) {
      this.#forget([...this.#asked]);
      return this.#soon();
    }
    this.#age();
    this.#later(code === TOO_OFTEN ? LATE : this.#after);
  }

  /** A handshake that failed does not say why; a question does, and its answer is as good as a count. */
  async #refused() {
    const wanted = this.#wanted();
    let after = null;
    try {
      const answer = await fetch(address(`/visitors/counts?communities=${wanted.map(encodeURIComponent)}`), {
        cache: "no-store",
        signal: AbortSignal.timeout(PATIENCE),
      });
      if ([400, 401, 403, 404, 405].includes(answer.status)) return this.#finish(true);
      if (answer.ok) {
        const { counts, stale } = await answer.json();
        const found = new Map(counts.map((one) => [String(one.community_id), one.current_visitors]));
        this.#forget(wanted.filter((community) => !found.has(community)));
        for (const [community, count] of found) this.#learn(community, count, stale);
      } else {
        after = 1_000 * answer.headers.get("Retry-After") || null;
        this.#age();
      }
    } catch {
      this.#age();
    }
    this.#later(after);
  }

  /** Comes back: when the server says, else later each time; never all at once. */
  #later(after) {
    const wait = Math.min(LATE, SOON * 2 ** this.#failures);
    this.#failures += 1;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), spread(Math.max(after ?? 0, wait)));
  }

  #close() {
    clearTimeout(this.#retry);
    this.#retry = null;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
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
      this.#resume("hidden");
    }
  }

  #learn(community, count, stale) {
    this.#known.set(community, { count, stale });
    this.#show(community);
  }

  #forget(communities) {
    for (const community of communities) {
      this.#unknown.add(community);
      this.#known.delete(community);
      this.#show(community);
    }
  }

  /** What is known is what was known. */
  #age() {
    for (const [community, { count }] of this.#known) this.#learn(community, count, true);
  }

  #finish(forget) {
    this.#over = true;
    this.#close();
    if (forget) this.#forget([...this.#known.keys()]);
    else this.#age();
  }

  #show(community) {
    for (const element of this.#elements) {
      if (element.community === community) element.show(this.#known.get(community));
    }
  }
}
