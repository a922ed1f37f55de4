package clients;

import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.oauth2.sdk.dpop.JWKThumbprintConfirmation;
import com.nimbusds.oauth2.sdk.dpop.verifiers.AccessTokenValidationException;
import com.nimbusds.oauth2.sdk.dpop.verifiers.DPoPIssuer;
import com.nimbusds.oauth2.sdk.dpop.verifiers.DPoPProtectedResourceRequestVerifier;
import com.nimbusds.oauth2.sdk.dpop.verifiers.InvalidDPoPProofException;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.token.DPoPAccessToken;
import java.net.URI;
import java.util.Map;
import java.util.Set;

/** What a resource server that uses Nimbus makes of a proof. */
final class NimbusVerifier {
  private static final long SECONDS_AHEAD = 30;
  private static final long SECONDS_OLD = 300;

  private final DPoPProtectedResourceRequestVerifier verifier =
      new DPoPProtectedResourceRequestVerifier(Set.of(JWSAlgorithm.ES256), SECONDS_AHEAD, SECONDS_OLD, null);

  /** Verifies the `proof` and `token` of a GET for `url`; returns why they are refused, or an empty text. */
  String verify(Map<String, Object> sent) throws Exception {
    DPoPAccessToken token = new DPoPAccessToken((String) sent.get("token"));
    JWKThumbprintConfirmation bound =
        JWKThumbprintConfirmation.parse(SignedJWT.parse(token.getValue()).getJWTClaimsSet());
    try {
      verifier.verify(
          "GET",
          URI.create((String) sent.get("url")),
          new DPoPIssuer(new ClientID(Client.ID)),
          SignedJWT.parse((String) sent.get("proof")),
          token,
          bound,
          null);
      return "";
    } catch (InvalidDPoPProofException | AccessTokenValidationException refused) {
      return refused.getMessage();
    }
  }
}
