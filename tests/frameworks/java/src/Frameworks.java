import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.LinkedHashMap;
import java.util.Map;
import org.eclipse.jetty.ee11.servlet.ServletContextHandler;
import org.eclipse.jetty.server.Server;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.DeleteMapping;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.RestController;

/** Servers of Java, each with the same routes. Arguments are NAME=PORT, for each that shall listen. */
public class Frameworks {
  public static void main(String[] arguments) throws Exception {
    for (String argument : arguments) {
      String[] parts = argument.split("=");
      int port = Integer.parseInt(parts[1]);
      if (parts[0].equals("jetty")) {
        serveJetty(port);
      } else {
        serveSpring(port);
      }
    }
  }

  /** Only that the console is for one host alone is not in a route. */
  static String console(String host) {
    return host.equals("intern.test") ? "console" : "elsewhere";
  }

  // Jetty: a servlet for each path, which runs doGet for HEAD too.

  static void serveJetty(int port) throws Exception {
    Server server = new Server(new InetSocketAddress("127.0.0.1", port));
    ServletContextHandler context = new ServletContextHandler("/");
    Map<String, String> routes = new LinkedHashMap<>();
    routes.put("/public/page", "page");
    routes.put("/admin", "admin");
    routes.put("/api/kiss", "kiss");
    routes.put("/manage/*", "manage");
    routes.put("/orders/*", "orders");
    routes.put("/reports", "reports");
    routes.put("/console", "console");
    routes.forEach((path, name) -> context.addServlet(new Route(name), path));
    server.setHandler(context);
    server.start();
  }

  static class Route extends HttpServlet {
    private final String name;

    Route(String name) {
      this.name = name;
    }

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
      answer(name.equals("console") ? console(request.getServerName()) : name, request, response);
    }

    @Override
    protected void doDelete(HttpServletRequest request, HttpServletResponse response) throws IOException {
      if (name.equals("admin")) {
        answer("remove", request, response);
      }
    }

    private void answer(String route, HttpServletRequest request, HttpServletResponse response) throws IOException {
      response.setHeader("X-Route", route);
      response.getWriter().print("id \"" + request.getPathInfo() + "\" host " + request.getServerName());
    }
  }

  // Spring: its own routes, on Tomcat.

  static void serveSpring(int port) {
    SpringApplication application = new SpringApplication(Routes.class);
    application.setDefaultProperties(
        Map.of(
            "server.address", "127.0.0.1",
            "server.port", port,
            "spring.main.banner-mode", "off",
            "spring.mvc.hiddenmethod.filter.enabled", "true"));
    application.run();
  }

  @RestController
  @EnableAutoConfiguration
  static class Routes {
    @GetMapping("/public/page")
    ResponseEntity<String> page(HttpServletRequest request) {
      return answer("page", "", request);
    }

    @GetMapping("/admin")
    ResponseEntity<String> admin(HttpServletRequest request) {
      return answer("admin", "", request);
    }

    @DeleteMapping("/admin")
    ResponseEntity<String> remove(HttpServletRequest request) {
      return answer("remove", "", request);
    }

    @GetMapping("/api/kiss")
    ResponseEntity<String> kiss(HttpServletRequest request) {
      return answer("kiss", "", request);
    }

    @GetMapping({"/manage", "/manage/users"})
    ResponseEntity<String> manage(HttpServletRequest request) {
      return answer("manage", "", request);
    }

    @GetMapping("/orders/{id}")
    ResponseEntity<String> orders(@PathVariable("id") String id, HttpServletRequest request) {
      return answer("orders", id, request);
    }

    @GetMapping("/reports")
    ResponseEntity<String> reports(HttpServletRequest request) {
      return answer("reports", "", request);
    }

    @GetMapping("/console")
    ResponseEntity<String> console(HttpServletRequest request) {
      return answer(Frameworks.console(request.getServerName()), "", request);
    }

    private ResponseEntity<String> answer(String route, String id, HttpServletRequest request) {
      return ResponseEntity.ok()
          .header("X-Route", route)
          .body("id \"" + id + "\" host " + request.getServerName());
    }
  }
}
