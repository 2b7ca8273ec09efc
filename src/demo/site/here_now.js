// Asks once a second who is here. The site itself knows nothing of it: the sidecar answers.
const boxes = [...document.querySelectorAll("[data-community]")];

function face(visitor) {
  const item = document.createElement("li");
  const image = new Image(40, 40);
  image.src = visitor.avatar;
  image.alt = image.title = visitor.username;
  item.dataset.user = visitor.user_id;
  item.append(image);
  return item;
}

function show(box, count, visitors) {
  box.dataset.state = "live";
  box.querySelector(".count").textContent = count === 1 ? "1 person here now" : `${count} people here now`;
  const faces = box.querySelector("ul");
  if (!faces) return;
  const present = new Map(visitors.map((visitor) => [String(visitor.user_id), visitor]));
  for (const item of [...faces.children]) {
    if (!present.delete(item.dataset.user)) item.remove();
  }
  faces.append(...[...present.values()].map(face));
}

async function ask(box) {
  const what = box.querySelector("ul") ? "visitors" : "visitors/count";
  try {
    const response = await fetch(`/api/communities/${box.dataset.community}/${what}`);
    if (!response.ok) throw response.status;
    const answer = await response.json();
    show(box, answer.current_visitors, answer.visitors ?? []);
  } catch (problem) {
    box.dataset.state = "away";
    box.querySelector("ul")?.replaceChildren();
    box.querySelector(".count").textContent =
      problem === 401 ? "Sign in to see who is here" : "Who is here: no answer just now";
  }
}

(async () => {
  for (;;) {
    if (!document.hidden) await Promise.all(boxes.map(ask));
    await new Promise((resume) => setTimeout(resume, 1000));
  }
})();
