import { look } from "../../../../lib/kiejobs.ts";
import { orders } from "../../../../lib/orders.ts";

/** Say where an order stands; its files are read through the gateway. */
export async function GET(_request: Request, context: { params: Promise<{ order: string }> }): Promise<Response> {
  const order = orders.get((await context.params).order);
  if (!order) return new Response(null, { status: 404 });
  if (order.state === "success" && !order.urls.length) order.urls = (await look(order.job)).resultUrls;
  return Response.json(order);
}
