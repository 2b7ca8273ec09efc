// Reports views of pages that were fetched before they were shown.
// The server does not count those; each is reported once, when it is shown. All other views were counted when they
// were requested.

function report(url, referrer) {
  navigator.sendBeacon(address("/visits"), JSON.stringify({ url, referrer }));
}

/** Whether the page was there before it was asked for: prefetched, prerendered, or in the browser's cache. */
function wasAhead({ type, activationStart, deliveryType, responseStatus, transferSize, encodedBodySize }) {
  if ((responseStatus || 200) !== 200) return false;
  if (activationStart > 0 || deliveryType === "navigational-prefetch") return true;
  // Going back returns to a view that was counted.
  if (type !== "navigate") return false;
  // A revalidated page (304) is from the cache, too, but its answer was transferred.
  if (transferSize !== 0) return false;
  if (deliveryType !== undefined) return deliveryType === "cache";
  // Firefox has no `deliveryType`; answers of a service worker look the same there.
  return encodedBodySize > 0 && !navigator.serviceWorker?.controller;
}

function watchViews() {
  const [navigation] = performance.getEntriesByType("navigation");
  if (document.prerendering) {
    document.addEventListener("prerenderingchange", () => report(navigation.name, document.referrer), { once: true });
  } else if (navigation && wasAhead(navigation)) {
    report(navigation.name, document.referrer);
  }
  // Turbo Drive uses a page that it fetched when the pointer was over a link.
  addEventListener("turbo:before-fetch-request", async ({ detail: { fetchRequest, fetchOptions } }) => {
    if (!fetchRequest || "Turbo-Frame" in fetchOptions.headers) return;
    try {
      const { ok, url } = await fetchRequest.response;
      if (ok) report(url, fetchOptions.referrer);
    } catch {
      // The request failed.
    }
  });
}
