// What the client does with each operation of the document: one entry each. An operation that has none, or an entry whose
// operation there is not, does not compile.

import { equal, ok } from "node:assert/strict";

import type { operations } from "./api.js";
import { eventOf, messageOf, type Site } from "./site.js";

type Attempt = (site: Site) => Promise<void>;

export const attempts: { readonly [operation in keyof operations]: Attempt } = {
  async list_visitors({ client, community }) {
    const { data, response } = await client.GET("/api/communities/{community}/visitors", {
      params: { path: { community }, query: { limit: 10 } },
    });
    equal(response.status, 200);
    ok(data);
    const [visitor] = data.visitors;
    ok(visitor);
    equal(visitor.username, "alice");
    equal(data.current_visitors, 1);
    equal(data.next, null);
  },

  async count_visitors({ client, community }) {
    const { data } = await client.GET("/api/communities/{community}/visitors/count", {
      params: { path: { community } },
    });
    equal(data?.current_visitors, 1);
    equal(data?.stale, false);
  },

  async count_visitors_of_many({ client, community }) {
    const { data } = await client.GET("/api/visitors/counts", {
      params: { query: { communities: [community, "404"] } },
    });
    equal(data?.counts.length, 1);
    equal(data?.counts[0]?.current_visitors, 1);
  },

  async community_statistics({ client, community }) {
    const { data } = await client.GET("/api/communities/{community}/visitors/stats", {
      params: { path: { community }, query: { days: 7 } },
    });
    equal(data?.days, 7);
    equal(data?.total_visitors, 1);
    equal(data?.page_views, 1);
  },

  async past_visitors({ client, community }) {
    const { data } = await client.GET("/api/communities/{community}/visitors/history", {
      params: { path: { community }, query: { days: 7, sort: "visit_count", limit: 10 } },
    });
    const [visitor] = data?.visitors ?? [];
    ok(visitor);
    equal(visitor.username, "alice");
    equal(visitor.visit_count, 1);
    equal(data?.next, null);
  },

  async past_visitor({ client, community }) {
    const { data: list } = await client.GET("/api/communities/{community}/visitors/history", {
      params: { path: { community } },
    });
    const user = String(list?.visitors[0]?.user_id);
    const { data } = await client.GET("/api/communities/{community}/visitors/history/{user}", {
      params: { path: { community, user }, query: { days: 7 } },
    });
    equal(data?.username, "alice");
    equal(data?.page_views, 1);
  },

  async count_site_visitors({ client }) {
    const { data } = await client.GET("/api/visitors/count");
    equal(data?.current_visitors, 1);
  },

  async list_site_visitors({ client }) {
    const { data } = await client.GET("/api/visitors/online", { params: { query: { limit: 10 } } });
    equal(data?.visitors[0]?.username, "alice");
    equal(data?.next, null);
  },

  async users_on_site({ client }) {
    const { data: list } = await client.GET("/api/visitors/online");
    const user = String(list?.visitors[0]?.user_id);
    const { data } = await client.GET("/api/visitors/users", { params: { query: { ids: [user, "404"] } } });
    equal(data?.users.length, 1);
    equal(String(data?.users[0]?.user_id), user);
  },

  async list_visitors_of_post({ client, community }) {
    const { data } = await client.GET("/api/communities/{community}/posts/{post}/visitors", {
      params: { path: { community, post: "7" } },
    });
    equal(data?.scope_id, "7");
    equal(data?.visitors.length, 0);
  },

  async count_visitors_of_post({ client, community }) {
    const { data } = await client.GET("/api/communities/{community}/posts/{post}/visitors/count", {
      params: { path: { community, post: "7" } },
    });
    equal(data?.current_visitors, 0);
  },

  async listen_of_post({ client, community }) {
    const { data } = await client.GET("/api/communities/{community}/posts/{post}/visitors/live", {
      params: { path: { community, post: "7" }, query: { heartbeat: false } },
      headers: { accept: "text/event-stream" },
      parseAs: "stream",
    });
    const message = await eventOf(data);
    ok(message.type === "count");
    equal(message.current_visitors, 0);
  },

  // As an event stream.
  async listen_to_community({ client, community }) {
    const { data, response } = await client.GET("/api/communities/{community}/visitors/live", {
      params: { path: { community }, query: { heartbeat: false } },
      headers: { accept: "text/event-stream" },
      parseAs: "stream",
    });
    equal(response.headers.get("content-type"), "text/event-stream");
    const message = await eventOf(data);
    ok(message.type === "count");
    equal(message.current_visitors, 1);
  },

  // As a WebSocket.
  async listen_to_communities(site) {
    const message = await messageOf(site, `/api/visitors/live?communities=${site.community}`);
    ok(message.type === "count");
    equal(message.current_visitors, 1);
  },

  // From a page of the site, which alone may.
  async report_page_view({ client, origin, community, isServer }) {
    const { response, error } = await client.POST("/api/visits", {
      body: { url: `/communities/${community}/`, referrer: "/" },
      headers: { origin },
    });
    equal(response.status, isServer ? 403 : 204);
    equal(error?.status, isServer ? 403 : undefined);
  },

  async widget_script({ client }) {
    const { data } = await client.GET("/api/visitors/widget.js", { parseAs: "text" });
    ok(String(data).includes("customElements"));
  },

  async contract({ client }) {
    const { data } = await client.GET("/api/visitors/openapi.json");
    ok(data && "openapi" in data);
  },
};
