// Routers of Node, each with the same three routes, at the ports that are given.
import express4 from "express4"; import express5 from "express5"; import Koa from "koa"; import Router from "@koa/router"; import Fastify from "fastify"; import Hapi from "@hapi/hapi";
const [, , ...ports] = process.argv.map((each, place) => (place < 2 ? each : Number(each)));
[express4, express5].forEach((ex, i) => { const a = ex();
  a.get("/orders/:id", (q, r) => r.send(`item "${q.params.id}" host ${q.hostname}`)); a.delete("/admin", (q, r) => r.send("admin")); a.get("/admin", (q, r) => r.send("getadmin")); a.listen(ports[i], "127.0.0.1"); });
const k = new Koa(), r = new Router(); r.get("/orders/:id", c => { c.body = `item "${c.params.id}" host ${c.hostname}`; }); r.delete("/admin", c => { c.body = "admin"; }); r.get("/admin", c => { c.body = "getadmin"; }); k.use(r.routes()); k.listen(ports[3 - 1], "127.0.0.1");
const f = Fastify(); f.get("/orders/:id", async q => `item "${q.params.id}" host ${q.hostname}`); f.delete("/admin", async () => "admin"); f.get("/admin", async () => "getadmin"); await f.listen({ port: ports[4 - 1], host: "127.0.0.1" });
const h = Hapi.server({ port: ports[5 - 1], host: "127.0.0.1" }); h.route({ method: "GET", path: "/orders/{id}", handler: q => `item "${q.params.id}" host ${q.info.host}` }); h.route({ method: "DELETE", path: "/admin", handler: () => "admin" }); h.route({ method: "GET", path: "/admin", handler: () => "getadmin" }); await h.start();
