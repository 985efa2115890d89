import { enqueue, Problem } from "../../../lib/kiejobs.ts";
import { orders } from "../../../lib/orders.ts";

/** Buy a picture; the order's number makes that safe to repeat. */
export async function POST(request: Request): Promise<Response> {
  const { order, prompt } = (await request.json()) as { order: string; prompt: string };
  try {
    const made = await enqueue({
      model: "grok-imagine/text-to-image",
      input: { prompt },
      idempotencyKey: `picture/${order}`,
      callbackUrl: `${process.env.SERVICE_URL}/api/hooks/kiejobs`,
      metadata: { order },
    });
    if (!orders.has(order)) orders.set(order, { job: made.generationId, state: made.state, sequence: 0, urls: [] });
    return Response.json({ job: made.generationId }, { status: 202 });
  } catch (error) {
    if (error instanceof Problem) return Response.json({ detail: error.message }, { status: error.status });
    throw error;
  }
}
