// Caddy with the same routes as the routers. The argument is caddy=PORT.
package main

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

type object = map[string]any

func route(name string, match object) object {
	answer := object{
		"handler": "static_response",
		"headers": object{"X-Route": []string{name}},
		"body":    `id "{http.request.uri.path.1}" host {http.request.host}`,
	}
	return object{"match": []object{match}, "handle": []object{answer}, "terminal": true}
}

func on(method string, paths ...string) object {
	return object{"method": []string{method}, "path": paths}
}

func main() {
	_, port, _ := strings.Cut(os.Args[1], "=")
	console := on("GET", "/console")
	console["host"] = []string{"intern.test"}
	server := object{
		"listen":          []string{"127.0.0.1:" + port},
		"automatic_https": object{"disable": true},
		"routes": []object{
			route("page", on("GET", "/public/page")),
			route("admin", on("GET", "/admin")),
			route("remove", on("DELETE", "/admin")),
			route("kiss", on("GET", "/api/kiss")),
			route("manage", on("GET", "/manage", "/manage/*")),
			route("orders", on("GET", "/orders/*")),
			route("reports", on("GET", "/reports")),
			route("cache", on("PURGE", "/cache")),
			route("console", console),
		},
	}
	config, err := json.Marshal(object{
		"admin": object{"disabled": true, "config": object{"persist": false}},
		"apps":  object{"http": object{"servers": object{"front": server}}},
	})
	if err == nil {
		err = caddy.Load(config, true)
	}
	if err != nil {
		panic(err)
	}
	select {}
}
