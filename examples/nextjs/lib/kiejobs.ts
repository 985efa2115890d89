// The gateway, for a Next.js app: no package needed. Runs on the server only: the key must never reach a browser.
import { createHmac, timingSafeEqual } from "node:crypto";

export type Generation = {
  generationId: string;
  state: "waiting" | "success" | "fail" | "timeout" | "canceled";
  phase: string;
  resultUrls: string[];
  error: { code: string | null; reason: string | null; message: string | null; action: string } | null;
};

export type Message = {
  type: string;
  timestamp: string;
  data: {
    generationId: string;
    sequence: number;
    state: Generation["state"];
    phase: string;
    metadata: Record<string, unknown>;
  };
};

/** What the gateway refused, with the field at fault and what to do about it. */
export class Problem extends Error {
  status: number;
  field: string | null;
  action: string;

  constructor(told: { status: number; detail: string; field: string | null; action: string }) {
    super(told.detail);
    this.status = told.status;
    this.field = told.field;
    this.action = told.action;
  }
}

async function call<T>(path: string, init: RequestInit = {}): Promise<T> {
  const headers: Record<string, string> = { "Content-Type": "application/json" };
  if (process.env.GATEWAY_KEY) headers.Authorization = `Bearer ${process.env.GATEWAY_KEY}`;
  const answer = await fetch(`${process.env.GATEWAY_URL}${path}`, { ...init, headers, cache: "no-store" });
  const told = await answer.json();
  if (!answer.ok) throw new Problem(told);
  return told as T;
}

/** Buy a generation. The same key and request again is the same generation: safe to repeat after a lost answer. */
export function enqueue(request: {
  model: string;
  input: Record<string, unknown>;
  idempotencyKey: string;
  callbackUrl?: string;
  metadata?: Record<string, unknown>;
}): Promise<Generation> {
  return call("/api/generations", { method: "POST", body: JSON.stringify(request) });
}

export function look(id: string): Promise<Generation> {
  return call(`/api/generations/${encodeURIComponent(id)}`);
}

/** Return the message if it is signed with one of the secrets and not older than five minutes, else null. The body must
 * be the text as it came. The package `standardwebhooks` does the same. */
export function verified(headers: Headers, body: string, secrets: string[], now = Date.now()): Message | null {
  const id = headers.get("webhook-id") ?? "";
  const stamp = headers.get("webhook-timestamp") ?? "";
  if (!id || !/^\d+$/.test(stamp) || Math.abs(now / 1000 - Number(stamp)) > 300) return null;
  const given = (headers.get("webhook-signature") ?? "").split(" ").filter((one) => one.startsWith("v1,"));
  const fits = secrets.some((secret) => {
    const key = Buffer.from(secret.trim().replace(/^whsec_/, ""), "base64");
    if (!key.length) return false; // with an empty key everybody could sign
    const ours = createHmac("sha256", key).update(`${id}.${stamp}.${body}`).digest();
    return given.some((one) => {
      const theirs = Buffer.from(one.slice(3), "base64");
      return theirs.length === ours.length && timingSafeEqual(theirs, ours);
    });
  });
  return fits ? (JSON.parse(body) as Message) : null;
}
