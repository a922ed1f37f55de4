package clients;

import java.net.URI;
import java.util.List;
import java.util.Map;

/** A client that has a token, and asks. */
interface Client {
  String ID = "batch";
  String SECRET = "secret";

  /** Asks for a URL by GET, with proofs that are signed for a method; returns all that was sent, and its answers. */
  List<Exchange> ask(URI url, String method) throws Exception;

  /** How many tokens it asked the issuer for. */
  int tokens();

  /** What a proof says of a URL: no query, no fragment, and else as the caller wrote it. */
  static URI target(URI url) {
    return URI.create(url.toString().split("[?#]", 2)[0]);
  }

  /** One request, and its answer; `nonce` is empty where there is none. */
  record Exchange(
      int status, List<String> challenges, String nonce, String body, String authorization, String proof) {
    Map<String, Object> members() {
      return Map.of(
          "status", status,
          "challenges", challenges,
          "nonce", nonce,
          "body", body,
          "authorization", authorization,
          "proof", proof);
    }
  }
}
