// Put into a page before anything else: its time, its connections and the answers to its questions are a test's.
window.clock = 0;
window.timers = new Map();
window.sockets = [];
window.questions = [];
let timer = 0;
performance.now = () => clock;
Math.random = () => 0;
window.setTimeout = (call, wait = 0) => {
  timers.set(++timer, { call, at: clock + wait });
  return timer;
};
window.clearTimeout = (id) => timers.delete(id);
/** So much time passes, and whatever is due happens; returns how many connections there have been. */
window.pass = (time) => {
  const end = clock + time;
  const due = () => [...timers].filter(([, { at }]) => at <= end).sort(([a, x], [b, y]) => x.at - y.at || a - b)[0];
  for (let next = due(); next; next = due()) {
    const [id, { call, at }] = next;
    timers.delete(id);
    clock = Math.max(clock, at);
    call();
  }
  clock = end;
  return sockets.length;
};
window.WebSocket = class {
  static OPEN = 1;
  readyState = 0;
  said = [];
  constructor(url) {
    this.url = String(url);
    sockets.push(this);
  }
  send(text) {
    this.said.push(JSON.parse(text));
  }
  close() {
    if (this.readyState < 2) this.end(1006);
  }
  opens() {
    this.readyState = 1;
    this.onopen();
  }
  says(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  counts(community_id, current_visitors) {
    this.says({ type: "count", community_id, current_visitors, stale: false });
  }
  end(code) {
    this.readyState = 3;
    this.onclose({ code });
  }
};
window.fetch = (url) => new Promise((resolve) => {
  const answer = (status, body = {}, headers = {}) =>
    resolve({ status, ok: status === 200, headers: new Headers(headers), json: async () => body });
  questions.push({ url: String(url), answer });
});
/** What an element shows: its state and its count. */
window.shown = (index) => {
  const element = document.querySelectorAll("live-visitors")[index];
  return `${element.getAttribute("state")} ${element.count}`;
};
/** Names of those whose faces the first element shows. */
window.faces = () => {
  const faces = document.querySelector("live-visitors").shadowRoot.querySelectorAll(".avatar");
  return [...faces].map((face) => face.title).join();
};
