package clients;

import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.ECKey;
import com.nimbusds.jose.jwk.KeyUse;
import com.nimbusds.jose.jwk.gen.ECKeyGenerator;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.oauth2.sdk.ClientCredentialsGrant;
import com.nimbusds.oauth2.sdk.ParseException;
import com.nimbusds.oauth2.sdk.TokenRequest;
import com.nimbusds.oauth2.sdk.TokenResponse;
import com.nimbusds.oauth2.sdk.auth.ClientSecretBasic;
import com.nimbusds.oauth2.sdk.auth.Secret;
import com.nimbusds.oauth2.sdk.dpop.DPoPProofFactory;
import com.nimbusds.oauth2.sdk.dpop.DefaultDPoPProofFactory;
import com.nimbusds.oauth2.sdk.http.HTTPRequest;
import com.nimbusds.oauth2.sdk.http.HTTPResponse;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.JWTID;
import com.nimbusds.oauth2.sdk.token.DPoPAccessToken;
import com.nimbusds.oauth2.sdk.token.DPoPTokenError;
import com.nimbusds.openid.connect.sdk.Nonce;
import java.net.URI;
import java.time.Clock;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;

/** The example of Nimbus' OAuth SDK, and what it leaves to the application: a request is repeated once, with a nonce. */
final class NimbusClient implements Client {
  private final Clock clock;
  private final DPoPProofFactory proofs;
  private final DPoPAccessToken token;
  private Nonce nonce;

  NimbusClient(URI endpoint, Clock clock) throws Exception {
    this.clock = clock;
    ECKey key =
        new ECKeyGenerator(Curve.P_256).keyUse(KeyUse.SIGNATURE).algorithm(JWSAlgorithm.ES256).keyID("1").generate();
    proofs = new DefaultDPoPProofFactory(key, JWSAlgorithm.ES256);
    ClientSecretBasic credentials = new ClientSecretBasic(new ClientID(ID), new Secret(SECRET));
    HTTPRequest request =
        new TokenRequest.Builder(endpoint, credentials, new ClientCredentialsGrant()).build().toHTTPRequest();
    request.setDPoP(proofs.createDPoPJWT(request.getMethod().name(), request.getURI()));
    token = TokenResponse.parse(request.send()).toSuccessResponse().getTokens().getDPoPAccessToken();
  }

  @Override
  public List<Exchange> ask(URI url, String method) throws Exception {
    List<Exchange> made = new ArrayList<>();
    for (int left = 2; left > 0; left--) {
      HTTPRequest request = new HTTPRequest(HTTPRequest.Method.GET, url);
      request.setAuthorization(token.toAuthorizationHeader());
      Date now = Date.from(clock.instant());
      SignedJWT proof =
          proofs.createDPoPJWT(
              new JWTID(DPoPProofFactory.MINIMAL_JTI_BYTE_LENGTH), method, Client.target(url), now, token, nonce);
      request.setDPoP(proof);
      HTTPResponse answer = request.send();
      List<String> challenges = answer.getHeaderValues("WWW-Authenticate");
      made.add(
          new Exchange(
              answer.getStatusCode(),
              challenges == null ? List.of() : challenges,
              answer.getDPoPNonce() == null ? "" : answer.getDPoPNonce().getValue(),
              answer.getBody() == null ? "" : answer.getBody(),
              request.getAuthorization(),
              proof.serialize()));
      if (!asksForNonce(answer)) {
        break;
      }
      nonce = answer.getDPoPNonce();
    }
    return made;
  }

  @Override
  public int tokens() {
    return 1;
  }

  private static boolean asksForNonce(HTTPResponse answer) throws ParseException {
    String challenge = answer.getWWWAuthenticate();
    return challenge != null && DPoPTokenError.USE_DPOP_NONCE.equals(DPoPTokenError.parse(challenge));
  }
}
