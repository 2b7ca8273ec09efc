// A site with a sidecar in front, as one caller sees it.

import { once } from "node:events";
import type { Client } from "openapi-fetch";
import { WebSocket } from "ws";

import type { components, paths } from "./api.js";

export type LiveMessage = components["schemas"]["LiveMessage"];

export interface Site {
  readonly client: Client<paths>;
  readonly origin: string;
  readonly community: string;
  /** What says who the caller is. */
  readonly credentials: Readonly<Record<string, string>>;
  readonly isServer: boolean;
}

/** The first message of an event stream, which is closed then. */
export async function eventOf(stream: ReadableStream<Uint8Array> | null | undefined): Promise<LiveMessage> {
  if (!stream) throw new Error("no stream");
  const [reader, decoder] = [stream.getReader(), new TextDecoder()];
  let text = "";
  for (;;) {
    const data = /^data: (.*)\n/m.exec(text)?.[1];
    if (data !== undefined) {
      await reader.cancel();
      return JSON.parse(data) as LiveMessage;
    }
    const { value, done } = await reader.read();
    if (done) throw new Error(`the stream ended: ${text}`);
    text += decoder.decode(value, { stream: true });
  }
}

/** The first message of a WebSocket, which is closed then. */
export async function messageOf(site: Site, path: string): Promise<LiveMessage> {
  const url = site.origin.replace(/^http/, "ws") + path;
  const socket = new WebSocket(url, { headers: { ...site.credentials } });
  const [message] = (await once(socket, "message")) as [Buffer];
  socket.terminate();
  return JSON.parse(message.toString()) as LiveMessage;
}
