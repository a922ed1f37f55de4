//go:build more

package main

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/gofiber/fiber/v2"
	"github.com/gorilla/mux"
)

func init() {
	servers["gin"], servers["chi"], servers["fiber"], servers["gorilla"] = serveGin, serveChi, serveFiber, serveGorilla
}

func serveGin(address string) error {
	gin.SetMode(gin.ReleaseMode)
	g := gin.New()
	for _, r := range routes {
		g.Handle(r.method, r.colon(), func(c *gin.Context) {
			name, body := describe(r.name, c.Param("id"), c.Request.Host)
			c.Header("X-Route", name)
			c.String(200, "%s", body)
		})
	}
	return g.Run(address)
}

func serveChi(address string) error {
	chi.RegisterMethod("PURGE")
	m := chi.NewRouter()
	for _, r := range routes {
		m.Method(r.method, r.path, r.handler(func(q *http.Request) string { return chi.URLParam(q, "id") }))
	}
	return http.ListenAndServe(address, m)
}

func serveFiber(address string) error {
	f := fiber.New(fiber.Config{DisableStartupMessage: true, RequestMethods: append(fiber.DefaultMethods, "PURGE")})
	for _, r := range routes {
		answer := func(c *fiber.Ctx) error {
			name, body := describe(r.name, c.Params("id"), c.Hostname())
			c.Set("X-Route", name)
			return c.SendString(body)
		}
		if r.method == "GET" {
			f.Get(r.colon(), answer) // and HEAD
		} else {
			f.Add(r.method, r.colon(), answer)
		}
	}
	return f.Listen(address)
}

func serveGorilla(address string) error {
	m := mux.NewRouter()
	for _, r := range routes {
		m.HandleFunc(r.path, r.handler(func(q *http.Request) string { return mux.Vars(q)["id"] })).Methods(r.method)
	}
	return http.ListenAndServe(address, m)
}
