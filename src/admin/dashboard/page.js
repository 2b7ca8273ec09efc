// The dashboard's script: polls /dashboard.json each second while the page is visible, and shows the answer.
// If there is no answer, it says so. Nothing of an answer ever becomes markup: texts are set as texts.

const PAUSE = 1_000; // between an answer and the next question
const RETRY = 2_000; // after a question without an answer
const PATIENCE = 5_000; // for an answer
const MINUTE = 60; // points of the last minute
const SHORTEST = 15; // points of a line that has just begun

const byId = (id) => document.getElementById(id);
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const decimals = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });

// Words and numbers

const count = (number, one, many = `${one}s`) => `${decimals.format(number)} ${number === 1 ? one : many}`;
const time = (date) => clock.format(new Date(date));
const total = (labelled) => labelled.reduce((sum, { value }) => sum + value, 0);
const valueOf = (labelled, label) => labelled.find((entry) => entry.label === label)?.value ?? 0;
const words = (label) => label.replaceAll("_", " ");
const capitalised = (sentence) => sentence.charAt(0).toUpperCase() + sentence.slice(1);

/** @param {number} rate per second */
function perSecond(rate) {
  return new Intl.NumberFormat("en", { maximumFractionDigits: rate < 1 ? 2 : rate < 100 ? 1 : 0 }).format(rate);
}

function bytes(size) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${decimals.format(size)} ${units[unit]}`;
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const steps = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
  const first = steps.findIndex(([size]) => whole >= size);
  if (first < 0) return "0 s";
  const parts = [];
  let rest = whole;
  for (const [size, unit] of steps.slice(first, first + (first < 2 ? 2 : 1))) {
    if (rest >= size) parts.push(`${Math.floor(rest / size)} ${unit}`);
    rest %= size;
  }
  return parts.join(" ");
}

/** What a line of so many points shows. */
function span(points, step) {
  const minutes = Math.round((points * step) / 60);
  return minutes >= 60 ? "Last hour" : `Last ${minutes} min`;
}

// The page

/** Touches the page only where something changed, so that screen readers and selections are left in peace. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function level(element, value) {
  if (value) element.dataset.level = value;
  else delete element.dataset.level;
}

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** A sentence in which `this` stands for code. */
function sentence(text) {
  return text.split("`").map((part, index) => (index % 2 ? element("code", "", part) : part));
}

function fact(id, value, note, state) {
  const tile = byId(id);
  say(tile.children[1], value);
  if (tile.dataset.said !== note) {
    tile.dataset.said = note;
    tile.children[2].replaceChildren(...sentence(note));
  }
  level(tile, state);
}

/** Draws a line of `slots` points, the latest at the right; gaps where nothing is known. Returns its highest. */
function draw(svg, values, slots, name, format = decimals.format) {
  const known = values.filter((value) => value !== null);
  const highest = Math.max(0, ...known);
  const key = `${values.join()}/${slots}`;
  if (svg.dataset.key === key) return highest;
  svg.dataset.key = key;
  const shift = slots - values.length;
  const y = (value) => (30 - (highest ? (value / highest) * 27 : 0)).toFixed(2);
  let stroke = "";
  let area = "";
  values.forEach((value, index) => {
    if (value === null) return;
    const begins = index === 0 || values[index - 1] === null;
    const ends = index === values.length - 1 || values[index + 1] === null;
    // A point alone is drawn as a dash.
    const points = begins && ends ? [index + shift - 1, index + shift] : [index + shift];
    if (begins) area += `M${points[0]} 30`;
    points.forEach((x, nth) => {
      stroke += `${begins && nth === 0 ? "M" : "L"}${x} ${y(value)}`;
      area += `L${x} ${y(value)}`;
    });
    if (ends) area += "V30Z";
  });
  svg.setAttribute("viewBox", `0 0 ${slots - 1} 30`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const latest = known.length ? `now ${format(known.at(-1))}, highest ${format(highest)}` : "not known";
  svg.setAttribute("aria-label", `${name}: ${latest}`);
  svg.replaceChildren(path("area", area), path("stroke", stroke));
  return highest;
}

function path(className, line) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
  made.setAttribute("class", className);
  made.setAttribute("d", line);
  return made;
}

/** Keeps a row for each entry, in their order: rows are made, moved and removed only where needed. */
function rows(body, entries, keyOf, make, update) {
  const kept = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const isFilled = kept.size > 0;
  entries.forEach((entry, index) => {
    const key = String(keyOf(entry));
    let row = kept.get(key);
    if (!row) {
      row = make(entry);
      row.dataset.key = key;
      if (isFilled) row.classList.add("new");
    }
    kept.delete(key);
    update(row, entry);
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
  });
  for (const row of kept.values()) row.remove();
}

// What is shown

function showHealth({ state, degraded }) {
  const freshness = byId("freshness");
  const isReady = state === "ok";
  // Read out when it changes: so no ages or times in it.
  const served = degraded.length ? `Live, ${count(degraded.length, "problem")}` : "Live";
  say(freshness, isReady ? served : capitalised(state));
  level(freshness, isReady && !degraded.length ? "ok" : "warn");
  showProblems([...(isReady ? [] : [`this process does not serve: ${state}`]), ...degraded]);
}

function showProblems(problems) {
  document.title = problems.length ? `⚠ ${problems.length} · Headcount` : "Headcount";
  const list = byId("health");
  const said = problems.join("\n");
  if (list.dataset.said !== said) {
    list.dataset.said = said;
    const items = problems.length ? problems : ["nothing to act on: the site is served"];
    list.replaceChildren(...items.map((item) => element("li", "", ...sentence(capitalised(item)))));
    level(list, problems.length ? "bad" : "ok");
  }
}

function showViews({ per_second: now, minute, hour, step_seconds: step }) {
  say(byId("rate"), perSecond(now));
  const slots = Math.max(SHORTEST, hour.length);
  say(byId("hour-time"), span(slots, step));
  const peak = (id, line, slots, name) => {
    const highest = draw(byId(id), line, slots, name, perSecond);
    say(byId(`${id}-peak`), line.length ? `peak ${perSecond(highest)}` : "");
  };
  peak("minute", minute, MINUTE, "Page views per second in the last minute");
  peak("hour", hour, slots, "Page views per second");
}

/** Reasons that concern the visitor, in words. */
const NOBODY = {
  no_cookie: "no session cookie of that name",
  not_a_token: "the session cookie is no token (length or characters)",
  no_session: "not in the session table",
  session_ended: "the session is inactive, ended or expired",
  signed_out: "the session names no user",
  no_profile: "the session's account has no profile",
  account_disabled: "the session's account is disabled",
  unreadable_session: "the session cannot be read",
  jwt: "the JWT is refused (headcount_jwts_refused_total says why)",
};

function showNotCounted({ total: counted, unrecognised, not_counted: reasons }) {
  const looked = counted + unrecognised;
  const worst = reasons
    .filter(({ label }) => label in NOBODY)
    .reduce((most, next) => (next.value > most.value ? next : most), { value: 0 });
  const others = worst.value ? `; most others: ${words(worst.label)}` : "";
  const state = looked && !counted ? "warn" : looked ? "ok" : "";
  fact("recognised", looked ? percent.format(counted / looked) : "–", `of ${count(looked, "page")} looked at${others}`, state);
  const shown = reasons.filter(({ value }) => value).sort((one, other) => other.value - one.value);
  say(byId("not-counted-about"), shown.length ? "Requests that are no page view of a known visitor." : "Nothing yet since the start.");
  rows(byId("not-counted"), shown, ({ label }) => label, reasonRow, (row, { value }) => {
    say(row.children[1], decimals.format(value));
  });
}

function reasonRow({ label }) {
  const name = element("th", "", NOBODY[label] ?? words(label));
  name.scope = "row";
  return element("tr", "", name, element("td", "number"));
}

function showRecording(report) {
  const { recording, app, database, redis, routes, sessions } = report;
  const age = (date) => duration((new Date(report.now) - new Date(date)) / 1_000);
  const waits = recording.spool_views > 0;
  const held = `${bytes(recording.spool_bytes)} of ${bytes(recording.spool_limit_bytes)}`;
  const oldest = waits ? `oldest ${duration(recording.oldest_seconds)}` : "nothing waits";

  if (app.state === "up") fact("app", "Answers", `for ${age(app.since)}`, "ok");
  else fact("app", "Away", `since ${time(app.since)}, ${age(app.since)}`, "bad");

  if (database.state === "up") fact("database", "Up", `for ${age(database.since)}`, "ok");
  else fact("database", "Away", `since ${time(database.since)}, ${age(database.since)}; ${count(recording.spool_views, "view")} waiting`, "bad");

  if (redis.state === "off") fact("redis", "Not used", "presence is in memory");
  else if (redis.state === "up") fact("redis", "Up", `for ${age(redis.since)}`, "ok");
  else fact("redis", "Away", `since ${time(redis.since)}, ${age(redis.since)}`, "bad");

  if (recording.spool === "off") fact("spool", "Not used", "nothing is written");
  else if (recording.spool === "down") fact("spool", "Failing", "it cannot be written", "bad");
  else {
    const isFull = recording.spool_bytes >= recording.spool_limit_bytes;
    const state = isFull ? "bad" : waits && database.state !== "up" ? "warn" : "ok";
    fact("spool", count(recording.spool_views, "view"), `${held}, ${oldest}`, state);
  }

  const applied = recording.last_apply;
  fact("applied", applied ? `${age(applied)} ago` : "None yet", applied ? `at ${time(applied)}` : "since the start");

  const queued = total(recording.queued);
  fact("queue", count(queued, "view"), `${bytes(recording.queued_bytes)} in queues`);

  const dropped = total(recording.dropped);
  const worst = recording.dropped.reduce((most, next) => (next.value > most.value ? next : most), { value: 0 });
  fact("dropped", count(dropped, "view"), dropped ? `most: ${words(worst.label)}` : "since the start", dropped ? "warn" : "ok");

  const letters = recording.dead_letters;
  fact("letters", decimals.format(letters), letters ? "run `headcount dead-letters list`" : "no view was refused", letters ? "bad" : "ok");

  const kinds = report.live_connections;
  fact("live", decimals.format(total(kinds)), kinds.map(({ label, value }) => `${decimals.format(value)} ${words(label)}`).join(", "));

  const asked = total(sessions.lookups) - valueOf(sessions.lookups, "malformed");
  const known = valueOf(sessions.lookups, "cached");
  fact("sessions", asked ? percent.format(known / asked) : "–", `of ${count(asked, "lookup")}`);

  const loaded = routes.loaded_at ? `read at ${time(routes.loaded_at)}` : "";
  if (routes.ok) fact("routes", decimals.format(routes.count), loaded, "ok");
  else fact("routes", "Faulty files", `still those ${loaded}`, "bad");
}

function showSite({ on_site: now, peak_today: peak, stale }) {
  say(byId("on-site"), now === null ? "–" : decimals.format(now));
  level(byId("on-site"), stale ? "warn" : "");
  say(byId("site-peak"), peak === null ? "not known" : `peak of the day ${decimals.format(peak)} (UTC)`);
}

function showVisitors({ visitors, window_seconds: seconds }) {
  const { state, communities, occupied, stale, all } = visitors;
  const about = byId("visitors-about");
  const explained = {
    starting: "Not known yet.",
    unknown: "Not known: Redis has not answered, and this sidecar has not watched for long enough.",
    off: "Not recorded: record.presence is off.",
  }[state];
  let text = explained ?? `As of ${time(visitors.as_of)}. Seen within ${seconds % 1 ? `${seconds} s` : duration(seconds)}, in ${count(occupied, "community", "communities")}`;
  if (!explained) {
    const rest = occupied > communities.length ? `; the ${communities.length} with most are shown` : "";
    text = stale
      ? `Stale since Redis does not answer: only visitors whom this sidecar saw itself, as of ${time(visitors.as_of)}${rest}.`
      : `${text}${rest}${all ? "" : "; there are more, of which nothing is known here"}.`;
  }
  say(about, text);
  level(about, state === "unknown" ? "bad" : stale ? "warn" : "");
  say(byId("visitors-empty"), state === "known" && !communities.length ? "Nobody is here." : "");
  const slots = Math.max(SHORTEST, visitors.points) + 1;
  say(byId("visitors-time"), span(slots - 1, visitors.step_seconds));
  rows(byId("visitors"), communities, ({ id }) => id, communityRow, (row, { id, slug, visitors: now, line }) => {
    const [name, number, lastHour, peak] = row.children;
    say(name.children[0], slug ?? id);
    say(name.children[1], slug ? id : "");
    say(number, decimals.format(now));
    say(peak, decimals.format(draw(lastHour.firstChild, [...line, now], slots, "Visitors")));
  });
}

function communityRow() {
  const name = element("th", "", element("span"), element("span", "sub"));
  name.scope = "row";
  const line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  line.setAttribute("class", "line");
  return element("tr", "", name, element("td", "number"), element("td", "", line), element("td", "number peak"));
}

function showRecent({ recent, visitors, started_at: process }) {
  const slugs = new Map(visitors.communities.map(({ id, slug }) => [id, slug]));
  say(byId("recent-about"), recent.length ? "Counted page views of members; not whose they are." : "");
  say(byId("recent-empty"), recent.length ? "" : "No page view yet since the start.");
  // Each process numbers its pages separately.
  rows(byId("recent"), recent, ({ number }) => `${process} ${number}`, recentRow, (row, page) => {
    const kind = page.page_type ?? page.route ?? "no route";
    const place = page.community && (slugs.get(page.community) ?? `community ${page.community}`);
    const said = [kind === "community" && place ? null : kind, place].filter(Boolean);
    say(row.children[1].children[1], said.join(" · "));
  });
}

function recentRow({ at, path: shown, route }) {
  const when = element("time", "", time(at));
  when.dateTime = at;
  const page = element("span", "path", shown ?? (route ? `(${route})` : "(path not shown)"));
  return element("tr", "", element("td", "", when), element("td", "", page, element("span", "sub")));
}

function show(report) {
  delete document.body.dataset.gone;
  const uptime = duration((new Date(report.now) - new Date(report.started_at)) / 1_000);
  say(byId("host"), location.host);
  say(byId("version"), `version ${report.version}`);
  say(byId("uptime"), `up ${uptime}`);
  say(byId("as-of"), time(report.now));
  showHealth(report);
  showSite(report.visitors);
  showViews(report.page_views);
  showNotCounted(report.page_views);
  showRecording(report);
  showVisitors(report);
  showRecent(report);
}

function showThatItIsGone() {
  document.body.dataset.gone = "";
  say(byId("freshness"), "Not current");
  level(byId("freshness"), "bad");
  const problem = "The sidecar has ended, hangs, or cannot be reached from here";
  showProblems([lastAnswer ? `${problem}: what is shown is of ${time(lastAnswer)}` : problem]);
}

// Questions

let lastAnswer = null;
let version = null;
let isAsking = false;
let next = 0;

async function question() {
  const response = await fetch("/dashboard.json", { signal: AbortSignal.timeout(PATIENCE) });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response.json();
}

async function ask() {
  clearTimeout(next);
  if (isAsking || document.hidden) return;
  isAsking = true;
  const report = await question().catch(() => null);
  isAsking = false;
  next = setTimeout(ask, report ? PAUSE : RETRY);
  if (!report) {
    showThatItIsGone();
    return;
  }
  lastAnswer = Date.now();
  version ??= report.version;
  // Another version has taken over: this script may not understand its answers.
  if (version !== report.version) location.reload();
  else show(report);
}

document.addEventListener("visibilitychange", ask);

byId("test").addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = new URLSearchParams(new FormData(event.target));
  const answer = byId("explanation");
  answer.hidden = false;
  try {
    const response = await fetch(`/routes/test?${query}`, { signal: AbortSignal.timeout(PATIENCE) });
    answer.textContent = (await response.text()).trim();
  } catch {
    answer.textContent = "The sidecar does not answer.";
  }
});

ask();
