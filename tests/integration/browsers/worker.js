// A service worker that has its page's requests pass in one of several ways.
const how = location.search.slice(1);

const ways = {
  pass: ({ request }) => fetch(request),
  options: ({ request }) => fetch(request, { cache: "no-store" }),
  url: ({ request }) => fetch(request.url),
  preload: async ({ preloadResponse, request }) => (await preloadResponse) ?? fetch(request),
};

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil((async () => {
  if (how === "preload") await registration.navigationPreload.enable();
  await clients.claim();
})()));
if (ways[how]) {
  addEventListener("fetch", (event) => {
    if (new URL(event.request.url).pathname.endsWith("/")) event.respondWith(ways[how](event));
  });
}
