// Routers of Go, each with the same routes. Arguments are NAME=PORT, for each that shall listen.
package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/labstack/echo/v4"
)

type route struct{ method, path, name string }

// {id} is written as each router writes it.
var routes = []route{
	{"GET", "/public/page", "page"},
	{"GET", "/admin", "admin"},
	{"DELETE", "/admin", "remove"},
	{"GET", "/api/kiss", "kiss"},
	{"GET", "/manage", "manage"},
	{"GET", "/manage/users", "manage"},
	{"GET", "/orders/{id}", "orders"},
	{"GET", "/reports", "reports"},
	{"PURGE", "/cache", "cache"},
	{"GET", "/console", "console"},
}

var servers = map[string]func(address string) error{"go": serveMux, "echo": serveEcho}

// describe returns the name of the route that serves, and what it says. The console is for one host alone.
func describe(name, id, host string) (string, string) {
	if name == "console" && strings.Split(host, ":")[0] != "intern.test" {
		name = "elsewhere"
	}
	return name, fmt.Sprintf("id %q host %s", id, host)
}

func (r route) colon() string { return strings.ReplaceAll(r.path, "{id}", ":id") }

func (r route) handler(id func(*http.Request) string) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		name, body := describe(r.name, id(q), q.Host)
		w.Header().Set("X-Route", name)
		fmt.Fprint(w, body)
	}
}

func serveMux(address string) error {
	m := http.NewServeMux()
	for _, r := range routes {
		m.HandleFunc(r.method+" "+r.path, r.handler(func(q *http.Request) string { return q.PathValue("id") }))
	}
	return http.ListenAndServe(address, m)
}

func serveEcho(address string) error {
	e := echo.New()
	for _, r := range routes {
		e.Add(r.method, r.colon(), func(c echo.Context) error {
			name, body := describe(r.name, c.Param("id"), c.Request().Host)
			c.Response().Header().Set("X-Route", name)
			return c.String(200, body)
		})
	}
	return e.Start(address)
}

func main() {
	for _, argument := range os.Args[1:] {
		name, port, _ := strings.Cut(argument, "=")
		go func() { panic(servers[name]("127.0.0.1:" + port)) }()
	}
	select {}
}
