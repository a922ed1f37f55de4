package clients;

import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.ECKey;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.gen.ECKeyGenerator;
import com.nimbusds.jose.jwk.source.ImmutableJWKSet;
import com.nimbusds.jose.util.Base64URL;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Clock;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import org.springframework.http.HttpHeaders;
import org.springframework.http.HttpMethod;
import org.springframework.http.HttpRequest;
import org.springframework.http.client.ClientHttpRequestExecution;
import org.springframework.http.client.ClientHttpResponse;
import org.springframework.http.client.JdkClientHttpRequestFactory;
import org.springframework.security.oauth2.client.AuthorizedClientServiceOAuth2AuthorizedClientManager;
import org.springframework.security.oauth2.client.ClientCredentialsOAuth2AuthorizedClientProvider;
import org.springframework.security.oauth2.client.InMemoryOAuth2AuthorizedClientService;
import org.springframework.security.oauth2.client.endpoint.RestClientClientCredentialsTokenResponseClient;
import org.springframework.security.oauth2.client.registration.ClientRegistration;
import org.springframework.security.oauth2.client.registration.InMemoryClientRegistrationRepository;
import org.springframework.security.oauth2.client.web.client.OAuth2ClientHttpRequestInterceptor;
import org.springframework.security.oauth2.client.web.client.RequestAttributeClientRegistrationIdResolver;
import org.springframework.security.oauth2.core.AuthorizationGrantType;
import org.springframework.security.oauth2.jose.jws.SignatureAlgorithm;
import org.springframework.security.oauth2.jwt.JwsHeader;
import org.springframework.security.oauth2.jwt.JwtClaimsSet;
import org.springframework.security.oauth2.jwt.JwtEncoderParameters;
import org.springframework.security.oauth2.jwt.NimbusJwtEncoder;
import org.springframework.web.client.RestClient;

/**
 * Spring Security as an OAuth client, with the proof of its documentation.
 *
 * <p>It keeps tokens and sends them, but signs nothing for the API: an application that is to prove possession adds an
 * interceptor behind Spring's own, which puts the scheme right and repeats a request once, with a nonce.
 */
final class SpringClient implements Client {
  private static final String REGISTRATION = "keycloak";
  private static final String PROOF = "DPoP";

  private final Clock clock;
  private final ECKey key;
  private final NimbusJwtEncoder encoder;
  private final RestClient client;
  private List<Exchange> made = new ArrayList<>();
  private String method = "GET";
  private String nonce;
  private int tokens;

  SpringClient(URI endpoint, Clock clock, boolean proving) throws Exception {
    this.clock = clock;
    key = new ECKeyGenerator(Curve.P_256).keyID("1").generate();
    encoder = new NimbusJwtEncoder(new ImmutableJWKSet<>(new JWKSet(key)));
    ClientRegistration registration =
        ClientRegistration.withRegistrationId(REGISTRATION)
            .authorizationGrantType(AuthorizationGrantType.CLIENT_CREDENTIALS)
            .clientId(ID)
            .clientSecret(SECRET)
            .tokenUri(endpoint.toString())
            .build();
    RestClientClientCredentialsTokenResponseClient issuer = new RestClientClientCredentialsTokenResponseClient();
    issuer.addHeadersConverter(
        grant -> {
          tokens++;
          HttpHeaders headers = new HttpHeaders();
          headers.set(PROOF, prove("POST", endpoint, Clock.systemUTC(), null, null));
          return headers;
        });
    ClientCredentialsOAuth2AuthorizedClientProvider provider = new ClientCredentialsOAuth2AuthorizedClientProvider();
    provider.setAccessTokenResponseClient(issuer);
    InMemoryClientRegistrationRepository registrations = new InMemoryClientRegistrationRepository(registration);
    InMemoryOAuth2AuthorizedClientService kept = new InMemoryOAuth2AuthorizedClientService(registrations);
    AuthorizedClientServiceOAuth2AuthorizedClientManager manager =
        new AuthorizedClientServiceOAuth2AuthorizedClientManager(registrations, kept);
    manager.setAuthorizedClientProvider(provider);
    OAuth2ClientHttpRequestInterceptor sending = new OAuth2ClientHttpRequestInterceptor(manager);
    sending.setAuthorizationFailureHandler(OAuth2ClientHttpRequestInterceptor.authorizationFailureHandler(kept));
    RestClient.Builder builder =
        RestClient.builder().requestFactory(new JdkClientHttpRequestFactory()).requestInterceptor(sending);
    if (proving) {
      builder.requestInterceptor(this::prove);
    }
    client = builder.requestInterceptor(this::note).bufferContent((uri, verb) -> true).build();
  }

  @Override
  public List<Exchange> ask(URI url, String method) {
    this.method = method;
    made = new ArrayList<>();
    client
        .method(HttpMethod.GET)
        .uri(url)
        .attributes(RequestAttributeClientRegistrationIdResolver.clientRegistrationId(REGISTRATION))
        .exchange((request, response) -> response.getStatusCode());
    return made;
  }

  @Override
  public int tokens() {
    return tokens;
  }

  /** Sends a proof with a request, and once more if the answer asks for a nonce. */
  private ClientHttpResponse prove(HttpRequest request, byte[] body, ClientHttpRequestExecution execution)
      throws IOException {
    String token = request.getHeaders().getFirst(HttpHeaders.AUTHORIZATION).substring("Bearer ".length());
    request.getHeaders().set(HttpHeaders.AUTHORIZATION, "DPoP " + token);
    request.getHeaders().set(PROOF, prove(method, request.getURI(), clock, token, nonce));
    ClientHttpResponse response = execution.execute(request, body);
    String challenge = response.getHeaders().getFirst(HttpHeaders.WWW_AUTHENTICATE);
    if (challenge == null || !challenge.contains("error=\"use_dpop_nonce\"")) {
      return response;
    }
    nonce = response.getHeaders().getFirst("DPoP-Nonce");
    response.close();
    request.getHeaders().set(PROOF, prove(method, request.getURI(), clock, token, nonce));
    return execution.execute(request, body);
  }

  private String prove(String method, URI url, Clock clock, String token, String nonce) {
    JwsHeader header =
        JwsHeader.with(SignatureAlgorithm.ES256).type("dpop+jwt").jwk(key.toPublicJWK().toJSONObject()).build();
    JwtClaimsSet.Builder claims =
        JwtClaimsSet.builder()
            .issuedAt(clock.instant())
            .claim("htm", method)
            .claim("htu", Client.target(url).toString())
            .id(UUID.randomUUID().toString());
    if (token != null) {
      claims.claim("ath", hash(token));
    }
    if (nonce != null) {
      claims.claim("nonce", nonce);
    }
    return encoder.encode(JwtEncoderParameters.from(header, claims.build())).getTokenValue();
  }

  /** Notes what leaves the client, and its answer. */
  private ClientHttpResponse note(HttpRequest request, byte[] body, ClientHttpRequestExecution execution)
      throws IOException {
    ClientHttpResponse response = execution.execute(request, body);
    HttpHeaders sent = request.getHeaders();
    HttpHeaders received = response.getHeaders();
    made.add(
        new Exchange(
            response.getStatusCode().value(),
            received.getOrEmpty(HttpHeaders.WWW_AUTHENTICATE),
            received.getFirst("DPoP-Nonce") == null ? "" : received.getFirst("DPoP-Nonce"),
            new String(response.getBody().readAllBytes(), StandardCharsets.UTF_8),
            sent.getFirst(HttpHeaders.AUTHORIZATION),
            sent.getFirst(PROOF) == null ? "" : sent.getFirst(PROOF)));
    return response;
  }

  private static String hash(String token) {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      return Base64URL.encode(digest.digest(token.getBytes(StandardCharsets.US_ASCII))).toString();
    } catch (NoSuchAlgorithmException impossible) {
      throw new IllegalStateException(impossible);
    }
  }
}
