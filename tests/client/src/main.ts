// Tries each operation of the visitors API, as a visitor and as a server, and prints what it has tried.
//
//   node main.js ORIGIN COMMUNITY COOKIE KEY

import createClient from "openapi-fetch";

import type { paths } from "./api.js";
import { attempts } from "./operations.js";
import type { Site } from "./site.js";

const [origin, community, cookie, key] = process.argv.slice(2);
if (!origin || !community || !cookie || !key) throw new Error("ORIGIN COMMUNITY COOKIE KEY");

const callers = { visitor: { cookie }, server: { authorization: `Bearer ${key}` } };
for (const [name, credentials] of Object.entries(callers)) {
  // As the document says of lists, which the client does not read: commas between them.
  const querySerializer = { array: { style: "form", explode: false } } as const;
  const client = createClient<paths>({ baseUrl: origin, headers: credentials, querySerializer });
  const site: Site = { client, origin, community, credentials, isServer: name === "server" };
  for (const [operation, attempt] of Object.entries(attempts)) {
    try {
      await attempt(site);
    } catch (error) {
      throw new Error(`${operation} as a ${name}`, { cause: error });
    }
    console.log(`${name} ${operation}`);
  }
}
