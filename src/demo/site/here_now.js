// Shows who is here, and hears of each change. The site itself knows nothing of it: the sidecar tells.
const boxes = new Map([...document.querySelectorAll("[data-community]")].map((box) => [box.dataset.community, box]));
const communities = [...boxes.keys()];

function face(visitor) {
  const item = document.createElement("li");
  const image = new Image(40, 40);
  image.src = visitor.avatar;
  image.alt = image.title = visitor.username;
  item.dataset.user = visitor.user_id;
  item.append(image);
  return item;
}

async function showFaces(box) {
  const faces = box.querySelector("ul");
  if (!faces) return;
  const response = await fetch(`/api/communities/${box.dataset.community}/visitors`);
  if (!response.ok) return;
  const { visitors } = await response.json();
  const present = new Map(visitors.map((visitor) => [String(visitor.user_id), visitor]));
  for (const item of [...faces.children]) {
    if (!present.delete(item.dataset.user)) item.remove();
  }
  faces.append(...[...present.values()].map(face));
}

function show({ type, community_id, current_visitors: count }) {
  const box = boxes.get(String(community_id));
  if (type !== "count" || !box) return;
  box.dataset.state = "live";
  box.querySelector(".count").textContent = count === 1 ? "1 person here now" : `${count} people here now`;
  showFaces(box);
}

function away(text) {
  for (const box of boxes.values()) {
    box.dataset.state = "away";
    box.querySelector("ul")?.replaceChildren();
    box.querySelector(".count").textContent = text;
  }
}

function listen() {
  // On the page of one community the open stream counts as being there.
  const stream = new EventSource(
    communities.length === 1
      ? `/api/communities/${communities[0]}/visitors/live`
      : `/api/visitors/live?communities=${communities}`,
  );
  stream.onmessage = (event) => show(JSON.parse(event.data));
  stream.onerror = async () => {
    // After a lost connection the browser tries again by itself; after a refusal it does not.
    if (stream.readyState !== EventSource.CLOSED) return;
    const { status } = await fetch(`/api/visitors/counts?communities=${communities}`).catch(() => ({}));
    away(status === 401 ? "Sign in to see who is here" : "Who is here: no answer just now");
    if (status !== 401) setTimeout(listen, 2000 + 2000 * Math.random());
  };
}

if (communities.length > 0) listen();
