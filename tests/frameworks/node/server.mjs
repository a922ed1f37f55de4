// Routers of Node, each with the same routes. Arguments are NAME=PORT, for each that shall listen.
const ROUTES = [
  ["GET", "/public/page", "page"],
  ["GET", "/admin", "admin"],
  ["DELETE", "/admin", "remove"],
  ["GET", "/api/kiss", "kiss"],
  ["GET", "/manage", "manage"],
  ["GET", "/manage/users", "manage"],
  ["GET", "/orders/:id", "orders"],
  ["GET", "/reports", "reports"],
  ["PURGE", "/cache", "cache"],
  ["GET", "/console", "console"],
];
const HOST = "127.0.0.1";

// The name of the route that serves, and what it says. The console is for one host alone.
const describe = (name, id, host) =>
  [name === "console" && `${host}`.split(":")[0] !== "intern.test" ? "elsewhere" : name, `id "${id ?? ""}" host ${host}`];

const serveExpress = (module) => async (port) => {
  const app = (await import(module)).default();
  for (const [method, path, route] of ROUTES)
    app[method.toLowerCase()](path, (request, response) => {
      const [name, body] = describe(route, request.params.id, request.hostname);
      response.set("X-Route", name).send(body);
    });
  app.listen(port, HOST);
};

const SERVERS = {
  express4: serveExpress("express4"),
  express5: serveExpress("express5"),
  koa: async (port) => {
    const [{ default: Koa }, { default: Router }] = await Promise.all([import("koa"), import("@koa/router")]);
    const [app, router] = [new Koa(), new Router()];
    for (const [method, path, route] of ROUTES)
      router.register(path, [method], (context) => {
        const [name, body] = describe(route, context.params.id, context.hostname);
        context.set("X-Route", name);
        context.body = body;
      });
    app.use(router.routes()).listen(port, HOST);
  },
  fastify: async (port) => {
    const app = (await import("fastify")).default();
    app.addHttpMethod("PURGE");
    for (const [method, url, route] of ROUTES)
      app.route({ method, url, handler: async (request, reply) => {
        const [name, body] = describe(route, request.params.id, request.hostname);
        reply.header("X-Route", name);
        return body;
      } });
    await app.listen({ port, host: HOST });
  },
  hapi: async (port) => {
    const server = (await import("@hapi/hapi")).default.server({ port, host: HOST });
    for (const [method, path, route] of ROUTES)
      server.route({ method, path: path.replace(":id", "{id}"), handler: (request, h) => {
        const [name, body] = describe(route, request.params.id, request.info.host);
        return h.response(body).header("X-Route", name);
      } });
    await server.start();
  },
};

for (const argument of process.argv.slice(2)) {
  const [name, port] = argument.split("=");
  await SERVERS[name](Number(port));
}
