import { verified } from "../../../../lib/kiejobs.ts";
import { orders } from "../../../../lib/orders.ts";

/** Take a message: verify its raw body, commit what it says, then answer 2xx; what is answered otherwise comes again. */
export async function POST(request: Request): Promise<Response> {
  const message = verified(request.headers, await request.text(), (process.env.WEBHOOK_SECRET ?? "").split(","));
  if (!message) return new Response(null, { status: 401 });
  const { metadata, sequence, state } = message.data;
  const order = orders.get(String(metadata.order));
  if (!order) return new Response(null, { status: 503 }); // told before the order was saved: it comes again
  if (sequence > order.sequence) {
    Object.assign(order, { state, sequence }); // neither a repeat nor older news: commit here; if that fails, answer 500
  }
  return new Response(null, { status: 204 });
}
