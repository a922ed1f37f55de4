package clients;

import com.nimbusds.jose.util.JSONObjectUtils;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.ProxySelector;
import java.net.SocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Clock;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/**
 * A client of DPoP: gets a token that is bound to its key, then asks for the URL of each line of standard input.
 *
 * <p>Arguments: `nimbus`, `spring`, or `spring-alone`, without what an application adds; the token endpoint; host:port
 * of the proxy that leads to hosts under `.test`; how many seconds the client's clock is ahead once it has the token. A
 * line is JSON: `url`, and `method`, for which proofs are signed, though the client always sends GET. For each it writes
 * a line: `exchanges`, all that was sent and answered, and `tokens`, how many it asked for so far. With the argument
 * `verify` it is a resource server instead: `proof`, `token` and `url` in, and `refused` out.
 */
public final class Clients {
  private Clients() {}

  public static void main(String[] arguments) throws Exception {
    if (arguments[0].equals("verify")) {
      NimbusVerifier verifier = new NimbusVerifier();
      answerLines(order -> Map.of("refused", verifier.verify(order)));
      return;
    }
    URI endpoint = URI.create(arguments[1]);
    URI proxy = URI.create("http://" + arguments[2]);
    Clock clock = Clock.offset(Clock.systemUTC(), Duration.ofSeconds(Long.parseLong(arguments[3])));
    ProxySelector.setDefault(new ToTestHosts(new InetSocketAddress(proxy.getHost(), proxy.getPort())));
    Client client =
        switch (arguments[0]) {
          case "nimbus" -> new NimbusClient(endpoint, clock);
          case "spring" -> new SpringClient(endpoint, clock, true);
          case "spring-alone" -> new SpringClient(endpoint, clock, false);
          default -> throw new IllegalArgumentException(arguments[0]);
        };
    answerLines(
        order -> {
          List<Client.Exchange> made = client.ask(URI.create((String) order.get("url")), (String) order.get("method"));
          return Map.of("exchanges", made.stream().map(Client.Exchange::members).toList(), "tokens", client.tokens());
        });
  }

  private interface Answering {
    Map<String, Object> answer(Map<String, Object> order) throws Exception;
  }

  private static void answerLines(Answering answering) throws Exception {
    BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = orders.readLine(); line != null; line = orders.readLine()) {
      System.out.println(JSONObjectUtils.toJSONString(answering.answer(JSONObjectUtils.parse(line))));
    }
  }

  /** Leads to hosts under `.test` through a proxy, and to others directly. */
  private static final class ToTestHosts extends ProxySelector {
    private final List<Proxy> through;

    ToTestHosts(InetSocketAddress proxy) {
      through = List.of(new Proxy(Proxy.Type.HTTP, proxy));
    }

    @Override
    public List<Proxy> select(URI url) {
      return url.getHost().toLowerCase().endsWith(".test") ? through : List.of(Proxy.NO_PROXY);
    }

    @Override
    public void connectFailed(URI url, SocketAddress address, IOException failed) {
      throw new IllegalStateException(failed);
    }
  }
}
