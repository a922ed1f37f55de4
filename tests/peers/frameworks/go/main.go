package main

// Routers of Go, each with the same three routes, at the ports that are given.
import (
	"fmt"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/gofiber/fiber/v2"
	"github.com/gorilla/mux"
	"github.com/labstack/echo/v4"
)

func main() {
	go func() {
		m := http.NewServeMux()
		m.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "item %q host %s", r.PathValue("id"), r.Host)
		})
		m.HandleFunc("DELETE /admin", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "admin") })
		m.HandleFunc("GET /admin", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "getadmin") })
		panic(http.ListenAndServe(at(1), m))
	}()
	go func() {
		e := echo.New()
		e.GET("/orders/:id", func(c echo.Context) error {
			return c.String(200, fmt.Sprintf("item %q host %s", c.Param("id"), c.Request().Host))
		})
		e.DELETE("/admin", func(c echo.Context) error { return c.String(200, "admin") })
		e.GET("/admin", func(c echo.Context) error { return c.String(200, "getadmin") })
		panic(e.Start(at(2)))
	}()
	go func() {
		gin.SetMode(gin.ReleaseMode)
		g := gin.New()
		g.GET("/orders/:id", func(c *gin.Context) { c.String(200, "item %q host %s", c.Param("id"), c.Request.Host) })
		g.DELETE("/admin", func(c *gin.Context) { c.String(200, "admin") })
		g.GET("/admin", func(c *gin.Context) { c.String(200, "getadmin") })
		panic(g.Run(at(3)))
	}()
	go func() {
		r := chi.NewRouter()
		r.Get("/orders/{id}", func(w http.ResponseWriter, q *http.Request) { fmt.Fprintf(w, "item %q", chi.URLParam(q, "id")) })
		r.Delete("/admin", func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, "admin") })
		r.Get("/admin", func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, "getadmin") })
		panic(http.ListenAndServe(at(4), r))
	}()
	go func() {
		f := fiber.New(fiber.Config{DisableStartupMessage: true})
		f.Get("/orders/:id", func(c *fiber.Ctx) error {
			return c.SendString(fmt.Sprintf("item %q host %s", c.Params("id"), c.Hostname()))
		})
		f.Delete("/admin", func(c *fiber.Ctx) error { return c.SendString("admin") })
		f.Get("/admin", func(c *fiber.Ctx) error { return c.SendString("getadmin") })
		panic(f.Listen(at(5)))
	}()
	r := mux.NewRouter()
	r.HandleFunc("/orders/{id}", func(w http.ResponseWriter, q *http.Request) { fmt.Fprintf(w, "item %q", mux.Vars(q)["id"]) }).Methods("GET")
	r.HandleFunc("/admin", func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, "admin") }).Methods("DELETE")
	r.HandleFunc("/admin", func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, "getadmin") }).Methods("GET")
	panic(http.ListenAndServe(at(6), r))
}

func at(place int) string { return "127.0.0.1:" + os.Args[place] }
