#!/usr/bin/env bash
# Some issuers, such as those of Germany's health service, publish keys on Brainpool curves beside others; `BP-256` is one.
# Expected: a library that passes over a key of an unknown `kty`, as RFC 7517 (section 5) says, passes over an unknown curve too.
# Seen: joserfc (a bare KeyError, none of its own errors) and Nimbus JOSE + JWT (ParseException) refuse the whole set, though
# both pass over a key of an unknown `kty`. jwcrypto and jose4j verify by the other key.
. "$(dirname "$0")/lib.sh"
pip_install python jwcrypto==1.6.1 joserfc==1.8.0
maven_classpath com.nimbusds:nimbus-jose-jwt:10.10 org.bitbucket.b_c:jose4j:0.9.6
python/bin/python > seen.txt <<'PYTHON'
import json
from pathlib import Path

from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from jwcrypto import jwk, jwt

from make_token import key_set, token

brainpool = jwk.JWK.generate(kty="EC", crv="BP-256", kid="bp").export_public(as_dict=True)
documents = {"unknown kty": key_set({"kty": "NEW", "kid": "new"}), "BP-256": key_set(brainpool)}
Path("token.jwt").write_text(token())


def by_joserfc(document):
    joserfc_jwt.decode(token(), KeySet.import_key_set(json.loads(document)), algorithms=["ES256"])


def by_jwcrypto(document):
    jwt.JWT(jwt=token(), key=jwk.JWKSet.from_json(document), expected_type="JWS")


for label, document in documents.items():
    Path(f"{label.replace(' ', '-')}.json").write_text(document)
    for verify in (by_joserfc, by_jwcrypto):
        try:
            verify(document)
            print(f"{label} beside, {verify.__name__}: verified")
        except Exception as error:
            print(f"{label} beside, {verify.__name__}: {type(error).__name__}: {error}")
PYTHON
cat > Verify.java <<'JAVA'
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.source.ImmutableJWKSet;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import java.nio.file.Files;
import java.nio.file.Path;
import org.jose4j.jwk.JsonWebKeySet;
import org.jose4j.jwt.consumer.JwtConsumerBuilder;
import org.jose4j.keys.resolvers.JwksVerificationKeyResolver;

class Verify {
    interface Step { void run() throws Exception; }

    static void report(String label, Step step) {
        try {
            step.run();
            System.out.println(label + ": verified");
        } catch (Exception error) {
            System.out.println(label + ": " + error.getClass().getSimpleName() + ": " + error.getMessage());
        }
    }

    public static void main(String[] names) throws Exception {
        var token = Files.readString(Path.of("token.jwt"));
        for (var name : names) {
            var document = Files.readString(Path.of(name.replace(" ", "-") + ".json"));
            report(name + " beside, by_nimbus", () -> {
                var processor = new DefaultJWTProcessor<SecurityContext>();
                var source = new ImmutableJWKSet<SecurityContext>(JWKSet.parse(document));
                processor.setJWSKeySelector(new JWSVerificationKeySelector<>(JWSAlgorithm.ES256, source));
                processor.process(token, null);
            });
            report(name + " beside, by_jose4j", () -> {
                var keys = new JsonWebKeySet(document).getJsonWebKeys();
                new JwtConsumerBuilder().setVerificationKeyResolver(new JwksVerificationKeyResolver(keys))
                    .setSkipDefaultAudienceValidation().build().process(token);
            });
        }
    }
}
JAVA
java -cp "$(cat classpath.txt)" Verify.java "unknown kty" BP-256 >> seen.txt 2> java.log
compare seen.txt <<'SEEN'
unknown kty beside, by_joserfc: verified
unknown kty beside, by_jwcrypto: verified
BP-256 beside, by_joserfc: KeyError: 'BP-256'
BP-256 beside, by_jwcrypto: verified
unknown kty beside, by_nimbus: verified
unknown kty beside, by_jose4j: verified
BP-256 beside, by_nimbus: ParseException: Invalid JWK at position 0: Unknown / unsupported curve: BP-256
BP-256 beside, by_jose4j: verified
SEEN
