// Reports views of pages that were fetched before anybody looked, which the server therefore does not count: once, when
// they are shown. All other views it has counted when it was asked for them.

function report(url, referrer) {
  navigator.sendBeacon(address("/visits"), JSON.stringify({ url, referrer }));
}

/** Whether the page was there before it was asked for: prefetched, prerendered, or in the browser's cache. */
function wasAhead({ type, activationStart, deliveryType, responseStatus, transferSize, encodedBodySize }) {
  if ((responseStatus || 200) !== 200) return false;
  if (activationStart > 0 || deliveryType === "navigational-prefetch") return true;
  // Who comes back, comes back to a view that was counted.
  if (type !== "navigate") return false;
  // What the server was asked about (304) is from the cache, too, but its answer was transferred.
  if (transferSize !== 0) return false;
  if (deliveryType !== undefined) return deliveryType === "cache";
  // Firefox does not tell; what a service worker gives looks the same there.
  return encodedBodySize > 0 && !navigator.serviceWorker?.controller;
}

function watchViews() {
  const [navigation] = performance.getEntriesByType("navigation");
  if (document.prerendering) {
    document.addEventListener("prerenderingchange", () => report(navigation.name, document.referrer), { once: true });
  } else if (navigation && wasAhead(navigation)) {
    report(navigation.name, document.referrer);
  }
  // Turbo Drive uses what it has fetched when the pointer was over a link.
  addEventListener("turbo:before-fetch-request", async ({ detail: { fetchRequest, fetchOptions } }) => {
    if (!fetchRequest || "Turbo-Frame" in fetchOptions.headers) return;
    try {
      const { ok, url } = await fetchRequest.response;
      if (ok) report(url, fetchOptions.referrer);
    } catch {
      // It did not come.
    }
  });
}
