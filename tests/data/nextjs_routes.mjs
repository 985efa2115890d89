// Serves the route handlers of a Next.js app by their paths, as Next.js would, for a test: node nextjs_routes.mjs APP PORT
import { createServer } from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [app, port] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(join(app, "app/api", path, "route.ts")));
const routes = [
  [/^\/api\/pictures$/, await load("pictures"), []],
  [/^\/api\/pictures\/([^/]+)$/, await load("pictures/[order]"), ["order"]],
  [/^\/api\/hooks\/kiejobs$/, await load("hooks/kiejobs"), []],
];

createServer(async (incoming, outgoing) => {
  const pieces = [];
  for await (const piece of incoming) pieces.push(piece);
  const found = routes.find(([path]) => path.test(incoming.url));
  const handler = found?.[1][incoming.method];
  if (!handler) return outgoing.writeHead(404).end();
  const body = pieces.length ? { body: Buffer.concat(pieces) } : {};
  const request = new Request(`http://127.0.0.1:${port}${incoming.url}`, {
    method: incoming.method,
    headers: incoming.headers,
    ...body,
  });
  const values = incoming.url.match(found[0]).slice(1);
  const params = Object.fromEntries(found[2].map((name, at) => [name, values[at]]));
  const answer = await handler(request, { params: Promise.resolve(params) });
  outgoing.writeHead(answer.status, Object.fromEntries(answer.headers)).end(Buffer.from(await answer.arrayBuffer()));
}).listen(Number(port), "127.0.0.1");
